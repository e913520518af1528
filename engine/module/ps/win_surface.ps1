# Everything on the device that bears the name or the SID of a local account. A
# receipt rests on what is there now.
$items = @()
$tab = [string][char]9
$ticks = "$((Get-Date).ToUniversalTime().Ticks)"
_out 'clock' "$([long]$ticks.Substring(0, $ticks.Length - 7) - 62135596800)"
$sid = "$($a.sid)"
$u = win_account $a.name ''
if ($u) {
  $items = $items + ('account' + $tab + $u.Name + ':sid=' + $u.SID)
  if (-not $sid) { $sid = "$($u.SID)" }
}
if ($sid) {
  $other = win_account '' $sid
  if ($other -and ($other.Name -ne $a.name)) { $items = $items + ('account' + $tab + $other.Name + ':sid=' + $sid) }
}
foreach ($g in @(Get-LocalGroup)) {
  if ($g.Name -eq $a.name) { $items = $items + ('group' + $tab + $g.Name + ':sid=' + $g.SID) }
  if ($sid) {
    try {
      if (win_ismember $g $sid) { $items = $items + ('member' + $tab + $g.SID) }
    } catch { $items = $items + ('unreadable' + $tab + 'members of ' + $g.SID) }
  }
}
if ($sid) {
  $p = win_profileof $sid
  if ($p) { $items = $items + ('profile' + $tab + $p.LocalPath) }
  if (Test-Path -LiteralPath ('HKLM:\SOFTWARE\Microsoft\Windows NT\CurrentVersion\ProfileList\' + $sid)) { $items = $items + ('profile-list' + $tab + $sid) }
}
foreach ($path in @(win_folders $a.name)) { $items = $items + ('folder' + $tab + $path) }
$full = "$env:COMPUTERNAME\" + $a.name
foreach ($one in @(Get-Process -IncludeUserName)) {
  if ("$($one.UserName)" -eq $full) { $items = $items + ('process' + $tab + "$($one.Id) $($one.ProcessName)") }
}
foreach ($one in @(Get-CimInstance -ClassName Win32_Service)) {
  if (("$($one.StartName)" -eq ('.\' + $a.name)) -or ("$($one.StartName)" -eq $full)) { $items = $items + ('service' + $tab + $one.Name) }
}
foreach ($one in @(win_tasks $a.name $sid)) { $items = $items + ('task' + $tab + $one.TaskPath + $one.TaskName) }
_out 'items' $items
_out 'sid' $sid
