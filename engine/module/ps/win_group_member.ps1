# Edges between an account and local groups, one by one. Whose an edge is belongs
# to its state: another account may bear the name later.
function win_edge($i, $in, $sid) { if ($in) { _state $i "member sid=$sid" } else { _state $i 'absent' } }
$sid = "$($a.sid)"
if (-not $sid) {
  $u = win_account $a.user ''
  if ($u) { $sid = "$($u.SID)" }
}
if (-not $sid) {
  if (($a.state -ne 'absent') -and ($M -ne 'probe')) { _fail 1 "there is no local account $($a.user); for others give the sid" }
}
$added = @()
$already = @()
$missing = @()
$i = 0
foreach ($name in @($a.groups)) {
  $g = win_groupof $name
  $in = $false
  if ($g -and $sid) { $in = win_ismember $g $sid }
  win_edge $i $in $sid
  # One edge, however its group and its account are named: names are of one language,
  # and may change.
  if ($g -and $sid -and ($M -eq 'probe')) { _out ('object.' + $i) "windows:member:$($g.SID)/$sid" }
  $want = ($a.state -ne 'absent')
  if (-not $g) {
    $missing = $missing + $name
    if ($want -and ($M -eq 'apply')) { _fail 1 "there is no local group $name; a built-in one has a SID that is the same in every language, such as S-1-5-32-544" }
  } else {
    if ($in -eq $want) { $already = $already + $name } else {
      if ($M -ne 'probe') {
        $added = $added + $name
        _changed
      }
      if ($M -eq 'apply') {
        try {
          if ($want) { Add-LocalGroupMember -SID "$($g.SID)" -Member $sid } else { Remove-LocalGroupMember -SID "$($g.SID)" -Member $sid }
        } catch {
          if (((win_id $_) -ne 'MemberExists') -and ((win_id $_) -ne 'MemberNotFound')) { throw $_ }
        }
        $in = win_ismember $g $sid
        win_edge $i $in $sid
        if ($in -ne $want) { _fail 1 "the membership in $name did not change" }
      }
    }
  }
  $i = $i + 1
}
_out 'added' $added
_out 'already' $already
_out 'missing' $missing
