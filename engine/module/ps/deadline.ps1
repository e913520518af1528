# May what follows still begin? Tenths of seconds of the device's clock.
$ticks = "$((Get-Date).ToUniversalTime().Ticks)"
$now = $ticks.Substring(0, $ticks.Length - 6)
_out 'now' ('t' + $now)
if ($a.before -and -not ([long]$now -lt [long]$a.before.Substring(1))) {
  _out 'late' $true
  _fail 1 'too late'
}
