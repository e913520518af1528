# A text file with this content.
function win_copy_is { return (Get-Content -LiteralPath $a.dest -Raw -Encoding UTF8) }
function win_copy_state {
  if (Test-Path -LiteralPath $a.dest) { _state 0 "sha256=$((Get-FileHash -LiteralPath $a.dest -Algorithm SHA256).Hash)" } else { _state 0 'absent' }
}
if (Test-Path -LiteralPath $a.dest -PathType Container) { _fail 1 "$($a.dest) is a folder" }
win_copy_state
if ($M -eq 'probe') { return }
if (Test-Path -LiteralPath $a.dest) {
  $is = "$(win_copy_is)"
  if ([string]::CompareOrdinal($is, $a.content) -eq 0) { return }
  if (-not (win_true $a.replace)) { _fail 1 "$($a.dest) is there with another content: say replace: true, and it is not put back at the end" }
}
_changed
if ($M -eq 'check') { return }
Set-Content -LiteralPath $a.dest -Value $a.content -NoNewline -Encoding UTF8 -Force
win_copy_state
$is = "$(win_copy_is)"
if ([string]::CompareOrdinal($is, $a.content) -ne 0) { _fail 1 "$($a.dest) was not written as it should be" }
