# The profile of an account, by SID: also when the account is gone already.
function win_profile_tell($p) {
  $path = "$($a.path)"
  if ($p) { $path = "$($p.LocalPath)" }
  $folder = $false
  if ($path) { $folder = (Test-Path -LiteralPath $path) }
  $listed = (Test-Path -LiteralPath ('HKLM:\SOFTWARE\Microsoft\Windows NT\CurrentVersion\ProfileList\' + $a.sid))
  if ($p -or $folder -or $listed) { _state 0 "profile=$path" } else { _state 0 'absent' }
  _out 'exists' ($p -or $folder -or $listed)
  _out 'path' $path
  if ($p) { _out 'loaded' $p.Loaded } else { _out 'loaded' $false }
}

$p = win_profileof $a.sid
if (($M -eq 'probe') -or ($a.state -ne 'absent')) {
  win_profile_tell $p
  return
}
if ($p -and $p.Special) { _fail 1 "$($a.sid) is an account of Windows itself" }
if ($p) {
  win_profile_tell $p
  _changed
  if ($M -eq 'check') {
    return
  }
  if ($p.Loaded) {
    _out 'pending_reboot' $true
    win_profile_tell $p
    _fail 1 "the profile $($p.LocalPath) is in use: end the sessions and programs of $($a.sid) first; what a service holds is free after a reboot only"
  }
  $path = "$($p.LocalPath)"
  Remove-CimInstance -InputObject $p
  $left = win_profileof $a.sid
  if ($left) {
    win_profile_tell $left
    _fail 1 "the profile of $($a.sid) is still there"
  }
  if (Test-Path -LiteralPath $path) {
    _out 'pending_reboot' $true
    win_profile_tell $null
    _fail 1 "Windows forgot the profile, but its folder $path is still there: a program holds a file of it; it can be deleted after a reboot"
  }
  _say "deleted profile $path"
  $p = $null
}
win_profile_tell $p
