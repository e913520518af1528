# What powershell.exe is started with in a cmd shell: the same for every batch.
# Standard input holds a line for the script and one for each value: no value is
# in a command line, in the text of a script or in an argument of a cmdlet, which
# Windows may log. Events go to standard output, a line each.
$ErrorActionPreference = 'Stop'
function __un($t) { return [Text.Encoding]::UTF8.GetString([Convert]::FromBase64String($t)) }
$q = @($input)
$w = New-Object Collections.ArrayList
for ($i = 1; $i -lt $q.Count; $i++) {
  $d = $q[$i].Substring(1)
  $e = $q[$i].Substring(0, 1)
  if ($e -ceq 't') { $null = $w.Add((__un $d)) }
  elseif ($e -ceq 'i') { $null = $w.Add([long]$d) }
  elseif ($e -ceq 'b') { $null = $w.Add(($d -ceq '1')) }
  elseif ($e -ceq 's') {
    $s = New-Object Security.SecureString
    foreach ($c in (__un $d).ToCharArray()) { $s.AppendChar($c) }
    $null = $w.Add($s)
  } else {
    $k = New-Object Collections.ArrayList
    if ($e -ceq 'l') { foreach ($c in $d.Split(',')) { $null = $k.Add((__un $c)) } }
    $null = $w.Add($k)
  }
}
function __en($x) {
  if ($x -is [bool]) { if ($x) { return 'b1' } else { return 'b0' } }
  if (($x -is [int]) -or ($x -is [long])) { return ('i' + $x) }
  return ('t' + [Convert]::ToBase64String([Text.Encoding]::UTF8.GetBytes([string]$x)))
}
function __line($t) { [Console]::Out.WriteLine('#' + $w[0] + $t) }
filter __put {
  if (($_ -is [hashtable]) -and ($_.runner -ceq $w[0])) {
    $t = ''
    foreach ($k in $_.Keys) { if ($k -cne 'runner') { $t = $t + ' ' + $k + '=' + (__en $_[$k]) } }
    __line $t
  }
  elseif ($_ -is [Management.Automation.WarningRecord]) { __line (' w=' + (__en ('warning: ' + $_))) }
  else { __line (' o=' + (__en $_)) }
}
& ([scriptblock]::Create((__un $q[0]))) -v $w 3>&1 4>&1 5>&1 6>&1 | __put
