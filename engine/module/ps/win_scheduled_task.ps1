# Scheduled tasks, one by its path or all that run as a local account.
function win_task_path($one) { return ($one.TaskPath + $one.TaskName) }
$all = @()
if ($a.path) {
  foreach ($one in @(Get-ScheduledTask)) {
    if ((win_task_path $one) -eq $a.path) { $all = $all + $one }
  }
} else {
  $all = @(win_tasks $a.user $a.sid)
}
$found = @()
foreach ($one in $all) { $found = $found + (win_task_path $one) }
_out 'found' $found
if ($found) { _state 0 ($found -join '|') } else { _state 0 'absent' }
if (($a.state -ne 'absent') -or ($M -eq 'probe')) { return }
if ($found) { _changed }
if ($M -eq 'check') { return }
$removed = @()
foreach ($one in $all) {
  Stop-ScheduledTask -InputObject $one -ErrorAction SilentlyContinue
  Unregister-ScheduledTask -InputObject $one
  $removed = $removed + (win_task_path $one)
}
_out 'removed' $removed
if (-not $found) { return }
foreach ($one in @(Get-ScheduledTask)) {
  if ($removed -contains (win_task_path $one)) { _fail 1 "the task $(win_task_path $one) is still there" }
}
_state 0 'absent'
