# Everything that runs as a local account: sessions are logged off, the rest is ended.
function win_sessions_of($name) {
  $mine = @()
  foreach ($one in @(Get-Process -IncludeUserName)) {
    if ("$($one.UserName)" -eq ("$env:COMPUTERNAME\" + $name)) { $mine = $mine + $one }
  }
  return $mine
}

$u = win_account $a.name $a.sid
if (-not $u) {
  _out 'found' @()
  _out 'remaining' @()
  return
}
if ($a.sid -and $a.name -and ($u.Name -ne $a.name)) { _fail 1 "$($a.sid) has the name $($u.Name) now, not $($a.name)" }
$found = @()
$left = @()
$off = @()
foreach ($one in @(win_sessions_of $u.Name)) {
  $found = $found + "$($one.Id) $($one.ProcessName)"
  $off = $off + "$($one.SessionId)"
}
_out 'found' $found
if (($a.state -ne 'absent') -or ($M -eq 'probe')) {
  _out 'remaining' $found
  return
}
if ($found) { _changed }
if ($M -eq 'check') {
  _out 'remaining' $found
  return
}
$done = New-Object hashtable
foreach ($id in $off) {
  if (($id -ne '0') -and (-not $done.ContainsKey($id))) {
    $done[$id] = $true
    # What a program writes to standard error would end the body: a session that
    # has just ended by itself is no failure, and what is left is looked at below.
    $ErrorActionPreference = 'Continue'
    logoff.exe $id
    $ErrorActionPreference = 'Stop'
    $global:LASTEXITCODE = 0
  }
}
$tries = 0
while ($true) {
  $left = @()
  foreach ($one in @(win_sessions_of $u.Name)) {
    $left = $left + "$($one.Id) $($one.ProcessName)"
    if ($tries -gt 3) { Stop-Process -Id $one.Id -Force -ErrorAction SilentlyContinue }
  }
  $tries = $tries + 1
  if ((-not $left) -or ($tries -gt 20)) { break }
  Start-Sleep -Milliseconds 500
}
_out 'remaining' $left
if ($left) { _fail 1 ('still running: ' + ($left -join ', ')) }
