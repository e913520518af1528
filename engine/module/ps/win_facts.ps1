# What kind of device this is.
$os = Get-CimInstance -ClassName Win32_OperatingSystem
$cs = Get-CimInstance -ClassName Win32_ComputerSystem
_out 'hostname' "$env:COMPUTERNAME"
_out 'os' "$($os.Caption)"
_out 'version' "$($os.Version)"
_out 'domain' "$($cs.Domain)"
_out 'domain_role' "$($cs.DomainRole)"
_out 'controller' ($cs.DomainRole -ge 4)
_out 'powershell' "$($PSVersionTable.PSVersion)"
_out 'language_mode' "$($ExecutionContext.SessionState.LanguageMode)"
_out 'user' "$(whoami.exe)"
# The label of an elevated token, which an administrator has over WinRM.
$high = $false
foreach ($line in @(whoami.exe '/groups' '/fo' 'csv' '/nh')) {
  if ("$line" -cmatch 'S-1-16-12288') { $high = $true }
}
_out 'administrator' $high
_out 'local_accounts' ($null -ne (Get-Command -Name New-LocalUser -ErrorAction SilentlyContinue))
# Seconds since 1970, without a type that ConstrainedLanguage forbids.
$ticks = "$((Get-Date).ToUniversalTime().Ticks)"
_out 'clock' "$([long]$ticks.Substring(0, $ticks.Length - 7) - 62135596800)"
$why = @()
if (Test-Path -LiteralPath 'HKLM:\SOFTWARE\Microsoft\Windows\CurrentVersion\Component Based Servicing\RebootPending') { $why = $why + 'components' }
if (Test-Path -LiteralPath 'HKLM:\SOFTWARE\Microsoft\Windows\CurrentVersion\WindowsUpdate\Auto Update\RebootRequired') { $why = $why + 'updates' }
$session = Get-ItemProperty -LiteralPath 'HKLM:\SYSTEM\CurrentControlSet\Control\Session Manager' -Name PendingFileRenameOperations -ErrorAction SilentlyContinue
if ($session) { $why = $why + 'files' }
_out 'pending_reboot' ($why.Count -gt 0)
_out 'pending' $why
$global:LASTEXITCODE = 0
