# A local group of our own. Its identity is the SID.
function win_group_tell($g) {
  win_known 0 $g
  if ($g) {
    _out 'exists' $true
    _out 'sid' "$($g.SID)"
  } else {
    _out 'exists' $false
    _out 'sid' "$($a.sid)"
  }
}
function win_group_no($g, $text) {
  win_group_tell $g
  _fail 1 $text
}
function win_group_absent($g) {
  if (-not $g) {
    win_group_tell $null
    return
  }
  if ($a.sid) {
    if ("$($g.SID)" -ne $a.sid) { win_group_no $g "group $($a.name) is another one: $($g.SID), not $($a.sid)" }
  } else {
    if (-not $a.description) { win_group_no $g 'a name is no identity: give the sid or the description of the group' }
    if ($g.Description -ne $a.description) { win_group_no $g "group $($a.name) is another one: its description is not the one given" }
  }
  if ((win_true $a.if_empty) -and @(Get-LocalGroupMember -SID "$($g.SID)")) {
    _say "group $($a.name) has members: it stays"
    win_group_tell $g
    return
  }
  _changed
  if ($M -ne 'check') {
    Remove-LocalGroup -SID "$($g.SID)"
    if (win_groupof "$($g.SID)") { win_group_no $g "group $($a.name) is still there" }
    $g = $null
  }
  win_group_tell $g
}

$g = win_groupof $a.name
win_known 0 $g
if ($M -eq 'probe') {
  win_group_tell $g
  return
}
if ($a.state -eq 'absent') {
  win_group_absent $g
  return
}
if (-not $g) {
  _changed
  if ($M -ne 'check') {
    $null = New-LocalGroup -Name $a.name -Description "$($a.description)"
    $g = win_groupof $a.name
    if (-not $g) { win_group_no $null "group $($a.name) is not there after its creation" }
  }
}
win_group_tell $g
