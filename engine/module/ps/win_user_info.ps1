# What there is of a local account.
$u = win_account $a.name $a.sid
if (-not $u) {
  _out 'exists' $false
  _out 'name' "$($a.name)"
  _out 'sid' "$($a.sid)"
  return
}
_out 'exists' $true
_out 'name' $u.Name
_out 'sid' "$($u.SID)"
_out 'enabled' $u.Enabled
_out 'description' "$($u.Description)"
_out 'full_name' "$($u.FullName)"
_out 'expires' (win_utc $u.AccountExpires)
if ($u.LastLogon) { _out 'last_logon' (win_utc $u.LastLogon) }
$cim = Get-CimInstance -ClassName Win32_UserAccount -Filter "LocalAccount=TRUE AND SID='$($u.SID)'"
$groups = @()
if ($cim) {
  foreach ($one in @(Get-CimAssociatedInstance -InputObject $cim -Association Win32_GroupUser)) { $groups = $groups + "$($one.SID)" }
}
_out 'groups' $groups
$p = win_profileof $u.SID
if ($p) {
  _out 'profile' "$($p.LocalPath)"
  _out 'logged_in' $p.Loaded
}
