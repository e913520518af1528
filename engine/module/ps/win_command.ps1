# A program with its arguments, without a shell.
$is = ''
if ($_probe) {
  $is = win_look $_probe
  _state 0 $is
}
if ($M -eq 'probe') { return }
$why = win_idle $a.creates $a.removes
if ($is -and ($is -eq $_want)) { $why = "it is $is already" }
if ($why) {
  _say $why
  return
}
_changed
if ($M -eq 'check') {
  _say 'would run'
  return
}
$program = ''
$rest = @()
foreach ($word in @($a.argv)) {
  if ($program) { $rest = $rest + $word } else { $program = $word }
}
$was = win_env $a.env
$ErrorActionPreference = 'Continue'
try { & $program @rest } finally { win_unenv $a.env $was }
$ErrorActionPreference = 'Stop'
if ($_probe -and (-not $global:LASTEXITCODE)) {
  $is = win_look $_probe
  _state 0 $is
  if ($is -ne $_want) { _fail 1 "it has run, and its probe says: $is" }
}
