# Whether a local account is enabled. Whose it is belongs to the state: another
# account may bear the name later.
function win_enable_tell($u) {
  $on = $false
  if ($u) { $on = $u.Enabled }
  if ($on) { _state 0 "enabled sid=$($u.SID)" } else { _state 0 'absent' }
  _out 'enabled' $on
  if ($u) { _out 'sid' "$($u.SID)" } else { _out 'sid' '' }
}
$u = win_account $a.name ''
win_enable_tell $u
if ($M -eq 'probe') { return }
$want = ($a.state -ne 'absent')
if (-not $u) {
  if ($want) { _fail 1 "there is no local account $($a.name)" }
  return
}
if ($u.Enabled -eq $want) { return }
_changed
if ($want) { _say "enabled $($a.name)" } else { _say "disabled $($a.name)" }
if ($M -eq 'check') { return }
if ($want) { Enable-LocalUser -SID "$($u.SID)" } else { Disable-LocalUser -SID "$($u.SID)" }
$u = win_account '' $u.SID
win_enable_tell $u
if ($u -and ($u.Enabled -ne $want)) { _fail 1 "account $($a.name) did not change" }
