# A script of the author. Its values are the variables $_r1, $_r2 and so on; it
# runs in a scope of its own. What it writes is shown as PowerShell shows it.
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
$was = win_env $a.env
$ErrorActionPreference = $a.errors
try { win_run $a.script | Out-String -Stream -Width 4096 } finally { win_unenv $a.env $was }
$ErrorActionPreference = 'Stop'
if ($_probe -and (-not $global:LASTEXITCODE)) {
  $is = win_look $_probe
  _state 0 $is
  if ($is -ne $_want) { _fail 1 "it has run, and its probe says: $is" }
}
