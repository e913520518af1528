# A folder that is made, or a file or folder that is taken away.
function win_file_tell {
  $there = (Test-Path -LiteralPath $a.path)
  $folder = (Test-Path -LiteralPath $a.path -PathType Container)
  if ($folder) { _state 0 'directory' } else { if ($there) { _state 0 'file' } else { _state 0 'absent' } }
  _out 'exists' $there
  _out 'directory' $folder
}
$there = (Test-Path -LiteralPath $a.path)
$folder = (Test-Path -LiteralPath $a.path -PathType Container)
win_file_tell
if (($M -eq 'probe') -or ($a.state -eq 'look')) { return }
if ($a.state -eq 'directory') {
  if ($folder) { return }
  if ($there) { _fail 1 "$($a.path) is a file" }
  _changed
  if ($M -eq 'check') { return }
  $null = New-Item -ItemType Directory -Path $a.path
} else {
  if (-not $there) { return }
  _changed
  if ($M -eq 'check') { return }
  if ($folder -and (win_true $a.recurse)) {
    # rd and not Remove-Item: rd deletes links to other folders, and never follows them.
    if ($a.path -cnotmatch '\A[A-Za-z0-9 :\\_.-]+\z') { _fail 1 "$($a.path) cannot be given to rd: letters, digits, blanks, dots, dashes and underscores only" }
    $ErrorActionPreference = 'Continue'
    cmd.exe '/d' '/c' 'rd' '/s' '/q' $a.path
    $ErrorActionPreference = 'Stop'
    $global:LASTEXITCODE = 0
  } else {
    if ($folder -and @(Get-ChildItem -LiteralPath $a.path -Force)) { _fail 1 "the folder $($a.path) is not empty: say recurse: true to delete what is in it" }
    Remove-Item -LiteralPath $a.path -Force
  }
}
win_file_tell
if (($a.state -eq 'absent') -and (Test-Path -LiteralPath $a.path)) { _fail 1 "$($a.path) is still there" }
