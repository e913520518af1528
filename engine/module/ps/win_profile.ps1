# The profile of an account, by SID: also when the account is gone already, and
# what Windows does not know as a profile any more but bears the account's name.
function win_profile_tell($p) {
  $path = "$($a.path)"
  if ($p) { $path = "$($p.LocalPath)" }
  $folder = $false
  if ($path) { $folder = (Test-Path -LiteralPath $path) }
  if (win_profile_rest) { $folder = $true }
  $listed = $false
  if ($a.sid) { $listed = (Test-Path -LiteralPath ('HKLM:\SOFTWARE\Microsoft\Windows NT\CurrentVersion\ProfileList\' + $a.sid)) }
  if ($p -or $folder -or $listed) { _state 0 "profile=$path" } else { _state 0 'absent' }
  _out 'exists' ($p -or $folder -or $listed)
  _out 'path' $path
  if ($p) { _out 'loaded' $p.Loaded } else { _out 'loaded' $false }
}
# Folders of the account's name that are nobody's profile.
function win_profile_rest {
  $rest = @()
  if (-not $a.name) { return $rest }
  $known = @()
  $asked = $false
  foreach ($path in @(win_folders $a.name)) {
    if (-not $asked) {
      foreach ($one in @(Get-CimInstance -ClassName Win32_UserProfile)) { $known = $known + "$($one.LocalPath)" }
      $asked = $true
    }
    if ($known -notcontains $path) { $rest = $rest + $path }
  }
  return $rest
}

$p = $null
if ($a.sid) { $p = win_profileof $a.sid }
if (($M -eq 'probe') -or ($a.state -ne 'absent')) {
  win_profile_tell $p
  return
}
if ($p -and $p.Special) { _fail 1 "$($a.sid) is an account of Windows itself" }
win_profile_tell $p
$gone = @()
if ($p) {
  _changed
  if ($M -eq 'check') { return }
  if ($p.Loaded) {
    _out 'pending_reboot' $true
    _fail 1 "the profile $($p.LocalPath) is in use: end the sessions and programs of $($a.sid) first; what a service holds is free after a reboot only"
  }
  $path = "$($p.LocalPath)"
  Remove-CimInstance -InputObject $p
  $left = win_profileof $a.sid
  if ($left) {
    win_profile_tell $left
    _fail 1 "the profile of $($a.sid) is still there"
  }
  if ((Test-Path -LiteralPath $path) -and (@(win_profile_rest) -notcontains $path)) {
    _out 'pending_reboot' $true
    win_profile_tell $null
    _fail 1 "Windows forgot the profile, but its folder $path is still there: a program holds a file of it; it can be deleted after a reboot"
  }
  $gone = $gone + $path
}
if ($M -eq 'check') {
  if (win_profile_rest) { _changed }
  return
}
# rd and not Remove-Item: rd deletes links to other folders, and never follows them.
foreach ($path in @(win_profile_rest)) {
  if ($path -cnotmatch '\A[A-Za-z0-9 :\\_.-]+\z') { _fail 1 "the folder $path is left: its name cannot be given to rd" }
  _changed
  $ErrorActionPreference = 'Continue'
  cmd.exe '/d' '/c' 'rd' '/s' '/q' $path
  $ErrorActionPreference = 'Stop'
  $global:LASTEXITCODE = 0
  if (Test-Path -LiteralPath $path) {
    _out 'pending_reboot' $true
    win_profile_tell $null
    _fail 1 "Windows forgot the profile, but its folder $path is still there: a program holds a file of it; it can be deleted after a reboot"
  }
  if ($gone -notcontains $path) { $gone = $gone + $path }
}
_out 'deleted' $gone
if ($gone) { _say ('deleted ' + ($gone -join ', ')) }
win_profile_tell $null
