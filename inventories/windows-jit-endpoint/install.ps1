# Installs the endpoint runner.jit. Run it as an administrator, in the folder in
# which it is; change the account in runner.jit.pssc first. It can run again.
$ErrorActionPreference = 'Stop'
$modules = Join-Path $env:ProgramFiles 'WindowsPowerShell\Modules'
Copy-Item -Recurse -Force -Path (Join-Path $PSScriptRoot 'RunnerJit') -Destination $modules
$null = New-Item -ItemType Directory -Force -Path 'C:\ProgramData\runner-transcripts'
Enable-PSRemoting -Force -SkipNetworkProfileCheck
if (Get-PSSessionConfiguration -Name 'runner.jit' -ErrorAction SilentlyContinue) { Unregister-PSSessionConfiguration -Name 'runner.jit' -Force }
Register-PSSessionConfiguration -Name 'runner.jit' -Path (Join-Path $PSScriptRoot 'runner.jit.pssc') -Force
Get-PSSessionConfiguration -Name 'runner.jit'
