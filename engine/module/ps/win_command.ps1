# A program with its arguments, without a shell.
if ($M -eq 'probe') { return }
if ($a.creates -and (Test-Path -LiteralPath $a.creates)) {
  _say "$($a.creates) is there already"
  return
}
if ($a.removes -and (-not (Test-Path -LiteralPath $a.removes))) {
  _say "$($a.removes) is not there"
  return
}
_changed
if ($M -eq 'check') {
  _say 'would run'
  return
}
$ErrorActionPreference = 'Continue'
$program = ''
$rest = @()
foreach ($word in @($a.argv)) {
  if ($program) { $rest = $rest + $word } else { $program = $word }
}
& $program @rest
