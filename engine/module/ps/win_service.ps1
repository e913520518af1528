# A service of Windows: whether it runs, and how it starts.
function win_service_of { return (Get-CimInstance -ClassName Win32_Service -Filter "Name='$($a.name)'") }
function win_service_tell($s) {
  if ($s) {
    _state 0 "state=$($s.State) startup=$($s.StartMode)"
    _out 'exists' $true
    _out 'status' "$($s.State)"
    _out 'startup' "$($s.StartMode)"
    _out 'account' "$($s.StartName)"
  } else {
    _state 0 'absent'
    _out 'exists' $false
  }
}
$s = win_service_of
win_service_tell $s
if ($M -eq 'probe') { return }
if (-not $s) {
  if ($a.state -or $a.startup) { _fail 1 "there is no service $($a.name)" }
  return
}
$startup = ($a.startup -and ($s.StartMode -ne $a.startup))
$start = (($a.state -eq 'running') -and ($s.State -ne 'Running'))
$stop = (($a.state -eq 'stopped') -and ($s.State -ne 'Stopped'))
if (-not ($startup -or $start -or $stop)) { return }
_changed
if ($M -eq 'check') { return }
if ($startup) {
  $type = $a.startup
  if ($type -eq 'auto') { $type = 'automatic' }
  Set-Service -Name $a.name -StartupType $type
}
if ($start) { Start-Service -Name $a.name }
if ($stop) { Stop-Service -Name $a.name -Force }
$s = win_service_of
win_service_tell $s
if ($a.startup -and ($s.StartMode -ne $a.startup)) { _fail 1 "service $($a.name) still starts: $($s.StartMode)" }
if ($a.state -and ($s.State -ne $a.state)) { _fail 1 "service $($a.name) is still $($s.State)" }
