# Shared functions of the Windows modules. See ../README.md for the rules.

# win_id ERROR: the name of an error, which is the same in every language.
function win_id($e) { return ("$($e.FullyQualifiedErrorId)" -split ',')[0] }

# win_true VALUE: true, or the text of it: "$false" as text would be true, too.
function win_true($x) { return ("$x" -eq 'true') }

# win_account NAME SID: the local account, by SID when there is one, or nothing.
function win_account($name, $sid) {
  try {
    if ($sid) { return (Get-LocalUser -SID "$sid") }
    return (Get-LocalUser -Name "$name")
  } catch {
    if ((win_id $_) -ne 'UserNotFound') { throw $_ }
  }
}

# win_groupof NAME: the local group of a name or a SID, or nothing.
function win_groupof($name) {
  try {
    if ($name -cmatch '\AS-[0-9-]+\z') { return (Get-LocalGroup -SID "$name") }
    return (Get-LocalGroup -Name "$name")
  } catch {
    if ((win_id $_) -ne 'GroupNotFound') { throw $_ }
  }
}

# win_ismember GROUP SID: whether an account is in a local group. A group with a
# member whose domain cannot be asked makes Get-LocalGroupMember fail: then the
# groups of the local account are asked for instead.
function win_ismember($group, $sid) {
  try {
    foreach ($one in @(Get-LocalGroupMember -SID "$($group.SID)")) {
      if ("$($one.SID)" -eq "$sid") { return $true }
    }
    return $false
  } catch {
    return (win_joined $group $sid $_)
  }
}
function win_joined($group, $sid, $why) {
  $user = Get-CimInstance -ClassName Win32_UserAccount -Filter "LocalAccount=TRUE AND SID='$sid'"
  if (-not $user) { throw $why }
  foreach ($one in @(Get-CimAssociatedInstance -InputObject $user -Association Win32_GroupUser)) {
    if ("$($one.SID)" -eq "$($group.SID)") { return $true }
  }
  return $false
}

# win_known INDEX OBJECT: the state of an account or a group, before and after.
function win_known($i, $x) { if ($x) { _state $i "sid=$($x.SID)" } else { _state $i 'absent' } }

# win_utc TIME: in UTC to the second, or never.
function win_utc($t) {
  if ($null -eq $t) { return 'never' }
  return ($t.ToUniversalTime().ToString('s') + 'Z')
}

# win_folders NAME: folders of profiles that bear an account's name. Windows names
# a second folder of a name NAME.COMPUTER or NAME.000.
function win_folders($name) {
  $n = $name.Length
  $all = @()
  foreach ($d in @(Get-ChildItem -LiteralPath (Split-Path -Parent $env:PUBLIC) -Directory -Force)) {
    $its = ($d.Name -eq $name)
    if ($d.Name.Length -gt $n) { $its = ($d.Name.Substring(0, $n + 1) -eq ($name + '.')) }
    if ($its) { $all = $all + $d.FullName }
  }
  return $all
}

# win_tasks NAME SID: scheduled tasks that run as a local account.
function win_tasks($name, $sid) {
  $all = @()
  foreach ($one in @(Get-ScheduledTask)) {
    $who = "$($one.Principal.UserId)"
    $its = ($who -and ($who -eq $sid))
    if ($who -and $name) { $its = ($its -or ($who -eq $name) -or ($who -eq ("$env:COMPUTERNAME\" + $name))) }
    if ($its) { $all = $all + $one }
  }
  return $all
}

# win_profileof SID: what Windows knows of a profile, or nothing.
function win_profileof($sid) { return (Get-CimInstance -ClassName Win32_UserProfile -Filter "SID='$sid'") }
