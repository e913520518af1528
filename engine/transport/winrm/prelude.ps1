# What every batch starts with. $v holds the values of the batch; nothing else of
# a batch varies but which of the functions below are called, in which order and
# with which numbers. Names of our own start with two underscores; what bodies
# call starts with one. It has to run in ConstrainedLanguage: no types but the
# core ones, no methods of others. Comparisons are ordinal: -ceq and its like
# take "ss" for a sharp s and do not see a soft hyphen.
$ErrorActionPreference = 'Stop'
$ProgressPreference = 'SilentlyContinue'
$WarningPreference = 'Continue'
$InformationPreference = 'Continue'
$VerbosePreference = 'SilentlyContinue'
$DebugPreference = 'SilentlyContinue'
$ConfirmPreference = 'None'
$__r = @{ n = $v[0]; s = -1; p = ''; k = 0; c = $false; f = $false; rc = 0; stop = $false; j = ''; t = '' }
$__o = New-Object hashtable

# __text VALUE: its text as other devices see it.
function __text($x) {
  if ($null -eq $x) { return '' }
  if ($x -is [string]) { return $x }
  if ($x -is [bool]) {
    if ($x) { return 'true' }
    return 'false'
  }
  if ($x -is [securestring]) { return (New-Object pscredential 'x', $x).GetNetworkCredential().Password }
  return ($x -join [string][char]10)
}
function __bool($x) {
  if ($x) { return 'true' }
  return 'false'
}
function __eq($x, $y) { return ([string]::CompareOrdinal($x, $y) -eq 0) }
# __less A B ORSAME: of decimal numbers of any length.
function __less($x, $y, $q) {
  if ($x -cnotmatch '\A-?[0-9]+\z') { return $false }
  if ($y -cnotmatch '\A-?[0-9]+\z') { return $false }
  $xd = $x.TrimStart('-').TrimStart('0')
  $yd = $y.TrimStart('-').TrimStart('0')
  $xn = (($x -cmatch '\A-') -and ($xd.Length -gt 0))
  $yn = (($y -cmatch '\A-') -and ($yd.Length -gt 0))
  if ($xn -ne $yn) { return $xn }
  $c = $xd.Length - $yd.Length
  if ($c -eq 0) { $c = [string]::CompareOrdinal($xd, $yd) }
  if ($xn) { $c = 0 - $c }
  return (($c -lt 0) -or ($q -and ($c -eq 0)))
}
# __ref KEY DEFAULT: an output of an earlier step.
function __ref($k, $d) {
  if ($__o.ContainsKey($k)) { return $__o[$k] }
  return $d
}
function __word($k, $t) { $__o[($__r.p + $k)] = $t }
function __emit($e, $h) {
  $h.runner = $__r.n
  $h.e = $e
  $h.s = $__r.s
  return $h
}

# What bodies call.
function __key($k) {
  if ($k -cnotmatch '\A[A-Za-z0-9_.-]+\z') { throw 'runner: bad name of a fact' }
}
function _out($k, $t) {
  __key $k
  $t = __text $t
  __word $k $t
  __emit 'F' @{ k = $k; v = $t }
}
function _state($i, $t) { _out ('state.' + $i) $t }
function _say($t) { _out 'msg' $t }
function _changed { $__r.c = $true }
function _write($t) { __emit 'O' @{ v = (__text $t) } }
function _warn($t) { __emit 'W' @{ v = (__text $t) } }
function _fail($rc, $t) {
  $__r.rc = $rc
  throw $t
}

# A step.
function __step($n, $p) {
  $__r.s = $n
  $__r.p = $p
  $__r.k = 0
  $__r.c = $false
  $__r.f = $false
  $__r.rc = 0
}
function __begin {
  __note 'B' ''
  __emit 'B' @{}
}
# __try BODY: one attempt. A body that says break or continue ends itself only.
function __try($b) {
  $__r.k = $__r.k + 1
  $__r.c = $false
  $__r.rc = 0
  $global:LASTEXITCODE = 0
  try {
    do { & $b } while ($false)
    if (($__r.rc -eq 0) -and $global:LASTEXITCODE) { $__r.rc = $global:LASTEXITCODE }
  } catch {
    if ($__r.rc -eq 0) { $__r.rc = 1 }
    __emit 'X' @{ v = "$_"; id = "$($_.FullyQualifiedErrorId)"; at = $_.InvocationInfo.ScriptLineNumber }
  }
  $__r.f = ($__r.rc -ne 0)
  __word 'changed' (__bool $__r.c)
  __word 'failed' (__bool $__r.f)
  __word 'skipped' 'false'
  __word 'ran' 'true'
  __word 'rc' "$($__r.rc)"
  __word 'attempts' "$($__r.k)"
}
function __again($ms) {
  __emit 'R' @{ k = $__r.k }
  if ($ms -gt 0) { Start-Sleep -Milliseconds $ms }
}
function __end($on) {
  __word 'failed' (__bool $__r.f)
  if ($__r.f) {
    if (-not $on) { $__r.stop = $true }
  }
  __note 'E' (' ' + $__r.rc)
  __emit 'E' @{ rc = $__r.rc; c = $__r.c; f = $__r.f; k = $__r.k }
}
function __skip($why) {
  if ($why -eq 'when') {
    __word 'changed' 'false'
    __word 'failed' 'false'
    __word 'skipped' 'true'
    __word 'ran' 'false'
    __word 'rc' '0'
    __word 'attempts' '0'
  }
  __emit 'S' @{ v = $why }
}

# The progress of a batch is a value in the registry, which only administrators
# can write: HKLM:\SOFTWARE\runner\progress\SCOPE.ID. Who may not write there
# does without.
function __note($w, $more) {
  if ($__r.j) {
    $__r.t = $__r.t + $w + ' ' + $__r.s + $more + [char]10
    Set-ItemProperty -LiteralPath $__r.j -Name p -Value $__r.t -ErrorAction SilentlyContinue
  }
}
function __mine($id) {
  $me = Get-Process -Id $id -ErrorAction SilentlyContinue
  if ($me) { return ('P ' + $id + ' ' + $me.StartTime.Ticks) }
  return ''
}
function __open($name) {
  $root = 'HKLM:\SOFTWARE\runner\progress'
  try {
    if (-not (Test-Path -LiteralPath $root)) { $null = New-Item -Path $root -Force }
    $null = New-Item -Path ($root + '\' + $name) -Force
    $__r.j = $root + '\' + $name
    $__r.t = (__mine $PID) + [char]10
    Set-ItemProperty -LiteralPath $__r.j -Name p -Value $__r.t
  } catch { $__r.j = '' }
}
function __shut {
  if ($__r.j) { Remove-Item -LiteralPath $__r.j -Force -ErrorAction SilentlyContinue }
}
# __take SCOPE: ends the hosts of earlier batches of the scope and tells how far
# they came.
function __take($scope) {
  $found = @(Get-ChildItem -Path 'HKLM:\SOFTWARE\runner\progress' -ErrorAction SilentlyContinue)
  foreach ($key in $found) {
    $name = $key.PSChildName
    if ($name.Length -le ($scope.Length + 1)) { continue }
    if (-not (__eq $name.Substring(0, $scope.Length + 1) ($scope + '.'))) { continue }
    if (__eq $__r.j ('HKLM:\SOFTWARE\runner\progress\' + $name)) { continue }
    $text = (Get-ItemProperty -LiteralPath $key.PSPath -Name p -ErrorAction SilentlyContinue).p
    $first = ("$text" -split [char]10)[0]
    $id = ($first -split ' ')[1]
    if ($id -and ($id -ne "$PID") -and ((__mine $id) -eq $first)) {
      Stop-Process -Id $id -Force
      Wait-Process -Id $id -Timeout 10 -ErrorAction SilentlyContinue
    }
    __emit 'F' @{ k = ('progress.' + $name.Substring($scope.Length + 1)); v = "$text" }
    Remove-Item -LiteralPath $key.PSPath -Force -ErrorAction SilentlyContinue
  }
}
