# Whether a local account can be used: it is enabled and has not expired. Whose it
# is belongs to the state: another account may bear the name later.
function win_part($text, $key) {
  $rest = ("$text" -split $key)[1]
  return ("$rest" -split ' ')[0]
}
function win_usable($u) {
  if (-not $u.Enabled) { return $false }
  $until = win_utc $u.AccountExpires
  return (($until -eq 'never') -or ([string]::CompareOrdinal($until, (win_utc (Get-Date))) -gt 0))
}
function win_can($u) {
  if (-not $u) { return 'absent' }
  if (win_usable $u) { return "enabled sid=$($u.SID) expires=$(win_utc $u.AccountExpires)" }
  return "absent sid=$($u.SID) on=$(__bool $u.Enabled) expires=$(win_utc $u.AccountExpires)"
}
function win_enable_tell($u) {
  _state 0 (win_can $u)
  $can = $false
  if ($u) { $can = win_usable $u }
  _out 'enabled' $can
  if ($u) { _out 'sid' "$($u.SID)" } else { _out 'sid' '' }
}
function win_until($u, $until) {
  if ((win_utc $u.AccountExpires) -eq $until) { return }
  if ($until -eq 'never') { Set-LocalUser -SID "$($u.SID)" -AccountNeverExpires } else { Set-LocalUser -SID "$($u.SID)" -AccountExpires ([datetime]$until) }
}
$u = win_account $a.name ''
win_enable_tell $u
if ($M -eq 'probe') { return }
if ($a.state -ne 'absent') {
  if (-not $u) { _fail 1 "there is no local account $($a.name)" }
  $now = win_utc $u.AccountExpires
  if (win_usable $u) {
    if (($now -eq 'never') -or (($a.expires -ne 'never') -and ([string]::CompareOrdinal($now, $a.expires) -ge 0))) { return }
  }
  _changed
  _say "enabled $($a.name)"
  if ($M -eq 'check') { return }
  win_until $u $a.expires
  if (-not $u.Enabled) { Enable-LocalUser -SID "$($u.SID)" }
  $u = win_account '' $u.SID
  win_enable_tell $u
  if (-not (win_usable $u)) { _fail 1 "account $($a.name) cannot be used" }
  return
}
$is = win_can $u
if ((-not $u) -or ($is -eq $a.was)) { return }
$sid = win_part $a.was 'sid='
if ("$($u.SID)" -ne $sid) { _fail 1 "account $($a.name) is another one: $($u.SID), not $sid" }
if (-not (win_usable $u)) { return }
_changed
_say "put $($a.name) back"
if ($M -eq 'check') { return }
if ((win_part $a.was 'on=') -eq 'false') { Disable-LocalUser -SID "$($u.SID)" }
win_until $u (win_part $a.was 'expires=')
$u = win_account '' $u.SID
win_enable_tell $u
if ((win_can $u) -ne $a.was) { _fail 1 "account $($a.name) was not put back" }
