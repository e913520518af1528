# What there is of a local account.
$u = win_account $a.name $a.sid
$why = ''
if ($a.name -and $a.sid) {
  if ($u -and ($u.Name -ne $a.name)) { $why = "$($a.sid) has the name $($u.Name) now, not $($a.name)" }
  $other = win_account $a.name ''
  if ($other -and ("$($other.SID)" -ne $a.sid)) { $why = "account $($a.name) is another one: $($other.SID), not $($a.sid)" }
}
if ($u -and (-not $a.sid) -and $a.description -and ($u.Description -ne $a.description)) { $why = "account $($a.name) is another one: its description is not the one given" }
_out 'conflict' ($why -ne '')
if ($why) { _say $why }
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
