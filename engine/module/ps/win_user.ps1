# The local account: made, changed or taken away. Its identity is the SID.
function win_user_tell($u, $created, $conflict) {
  win_known 0 $u
  if ($u) {
    _out 'exists' $true
    _out 'sid' "$($u.SID)"
    _out 'enabled' $u.Enabled
    _out 'expires' (win_utc $u.AccountExpires)
  } else {
    _out 'exists' $false
    _out 'sid' "$($a.sid)"
    _out 'enabled' $false
    _out 'expires' ''
  }
  _out 'created' $created
  _out 'conflict' $conflict
}
function win_user_no($u, $conflict, $text) {
  win_user_tell $u $false $conflict
  _fail 1 $text
}
function win_user_create {
  if (-not $a.password) { win_user_no $null $false 'an account needs a password' }
  if ($a.name -eq $env:COMPUTERNAME) { win_user_no $null $false "an account cannot have the name of the computer: $($a.name)" }
  if ($M -eq 'check') {
    _changed
    _say "would create account $($a.name)"
    win_user_tell $null $false $false
    return
  }
  $p = @{ Name = $a.name; Password = $a.password; Description = "$($a.description)" }
  if ($a.full_name) { $p.FullName = $a.full_name }
  if (win_true $a.password_never_expires) { $p.PasswordNeverExpires = $true }
  if (win_true $a.fixed_password) { $p.UserMayNotChangePassword = $true }
  if (win_true $a.locked) { $p.Disabled = $true }
  if ($a.expires -and ($a.expires -ne 'never')) { $p.AccountExpires = [datetime]$a.expires } else { $p.AccountNeverExpires = $true }
  $null = New-LocalUser @p
  $u = win_account $a.name ''
  if (-not $u) { win_user_no $null $false "account $($a.name) is not there after its creation" }
  _changed
  if ($u.Description -ne "$($a.description)") { win_user_no $u $false "the description of $($a.name) was not stored" }
  if ($a.expires -and ((win_utc $u.AccountExpires) -ne $a.expires)) { win_user_no $u $false "the expiry of $($a.name) was not stored" }
  _say "created account $($a.name), $($u.SID)"
  win_user_tell $u $true $false
}
function win_user_update($u) {
  $p = @{ SID = "$($u.SID)" }
  $what = ''
  if ($a.description -and ($u.Description -ne $a.description)) {
    $p.Description = $a.description
    $what = $what + ' description'
  }
  if ($a.full_name -and ($u.FullName -ne $a.full_name)) {
    $p.FullName = $a.full_name
    $what = $what + ' full name'
  }
  if ($a.expires -and ((win_utc $u.AccountExpires) -ne $a.expires)) {
    if ($a.expires -eq 'never') { $p.AccountNeverExpires = $true } else { $p.AccountExpires = [datetime]$a.expires }
    $what = $what + ' expiry'
  }
  if ($a.password) {
    $p.Password = $a.password
    $what = $what + ' password'
  }
  $to = ''
  if (($null -ne $a.locked) -and ("$($a.locked)" -ne '')) {
    if ((win_true $a.locked) -and $u.Enabled) { $to = ' disabled' }
    if ((-not (win_true $a.locked)) -and (-not $u.Enabled)) { $to = ' enabled' }
  }
  if (-not ($what + $to)) {
    win_user_tell $u $false $false
    return
  }
  _changed
  _say ("$($a.name):" + $what + $to)
  if ($M -ne 'check') {
    if ($to -eq ' disabled') { Disable-LocalUser -SID "$($u.SID)" }
    if ($what) { Set-LocalUser @p }
    if ($to -eq ' enabled') { Enable-LocalUser -SID "$($u.SID)" }
    $u = win_account '' $u.SID
    if ($to -and ($u.Enabled -eq ($to -eq ' disabled'))) { win_user_no $u $false "account $($a.name) is not$to" }
  }
  win_user_tell $u $false $false
}
function win_user_absent($u) {
  $mine = $u
  if ($a.sid) {
    $mine = win_account '' $a.sid
    if ($u -and ("$($u.SID)" -ne $a.sid)) { win_user_no $u $true "account $($a.name) is another one: $($u.SID), not $($a.sid)" }
    if ($mine -and ($mine.Name -ne $a.name)) { win_user_no $mine $true "$($a.sid) has the name $($mine.Name) now, not $($a.name)" }
  }
  if (-not $mine) {
    win_user_tell $null $false $false
    return
  }
  if (-not $a.sid) {
    if (-not $a.description) { win_user_no $mine $true 'a name is no identity: give the sid or the description of the account' }
    if ($mine.Description -ne $a.description) { win_user_no $mine $true "account $($a.name) is another one: its description is not the one given" }
  }
  _changed
  if ($M -eq 'check') {
    _say "would delete account $($a.name)"
    win_user_tell $mine $false $false
    return
  }
  Remove-LocalUser -SID "$($mine.SID)"
  if (win_account '' $mine.SID) { win_user_no $mine $false "account $($a.name) is still there" }
  _say "deleted account $($a.name), $($mine.SID)"
  win_user_tell $null $false $false
}

if (-not (Get-Command -Name Get-LocalUser -ErrorAction SilentlyContinue)) { _fail 1 'the module Microsoft.PowerShell.LocalAccounts is not there: it comes with Windows Server 2016, Windows 10 and later' }
$u = win_account $a.name ''
win_known 0 $u
if ($M -eq 'probe') {
  win_user_tell $u $false $false
  return
}
if ($a.state -eq 'absent') {
  win_user_absent $u
  return
}
if (-not $u) {
  if ($a.exists -eq 'require') { win_user_no $null $false "there is no account $($a.name)" }
  win_user_create
  return
}
if ($a.sid -and ("$($u.SID)" -ne $a.sid)) { win_user_no $u $true "account $($a.name) is another one: $($u.SID), not $($a.sid)" }
if ($a.exists -eq 'fail') { win_user_no $u $true "an account $($a.name) exists already" }
if ($a.exists -eq 'adopt') {
  win_user_tell $u $false $false
  return
}
win_user_update $u
