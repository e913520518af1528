# A script of the author. Its values are the variables $_r1, $_r2 and so on; it
# runs in a scope of its own. What it writes is shown as PowerShell shows it.
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
$ErrorActionPreference = $a.errors
if ("$($ExecutionContext.SessionState.LanguageMode)" -eq 'FullLanguage') {
  & ([scriptblock]::Create($a.script)) | Out-String -Stream -Width 4096
} else {
  Invoke-Expression -Command $a.script | Out-String -Stream -Width 4096
}
