# Whether a name and a password are accepted, by a network logon at the WinRM
# service of the device itself. Nothing is started and no profile is made.
$cred = New-Object pscredential ("$env:COMPUTERNAME\" + $a.name), $a.password
try {
  $null = Test-WSMan -ComputerName localhost -Authentication Negotiate -Credential $cred
  _out 'valid' $true
  _out 'reason' ''
} catch {
  _out 'valid' $false
  _out 'reason' "$_"
  _say "the logon was refused: $_"
}
