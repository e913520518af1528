# Functions of the modules that run what an author wrote. They are apart from
# lib.ps1 because the endpoint for least privilege has no use for them.

# win_idle CREATES REMOVES: why there is nothing to do, or nothing.
function win_idle($creates, $removes) {
  if ($creates -and (Test-Path -LiteralPath $creates)) { return "$creates is there already" }
  if ($removes -and (-not (Test-Path -LiteralPath $removes))) { return "$removes is not there" }
  return ''
}

# win_run SCRIPT: runs it in a scope of its own.
function win_run($script) {
  if ("$($ExecutionContext.SessionState.LanguageMode)" -eq 'FullLanguage') {
    & ([scriptblock]::Create($script))
  } else {
    Invoke-Expression -Command $script
  }
}

# win_look SCRIPT: what the author's probe says: the last of it is True or False.
function win_look($script) {
  $last = ''
  foreach ($one in @(win_run $script)) { $last = "$one" }
  $global:LASTEXITCODE = 0
  if ($last -eq 'True') { return 'present' }
  if ($last -eq 'False') { return 'absent' }
  throw "its probe has to say True or False, and said: $last"
}

# win_env NAMES: sets variables of the environment to _e1, _e2, and so on, and
# returns what they were, for win_unenv. One that gets an empty text is taken away.
function win_env($names) {
  $was = @{}
  $i = 0
  foreach ($n in ("$names" -split ' ')) {
    if ($n) {
      $i = $i + 1
      $was[$n] = ''
      if (Test-Path -LiteralPath "Env:\$n") { $was[$n] = (Get-Item -LiteralPath "Env:\$n").Value }
      Set-Item -LiteralPath "Env:\$n" -Value (Get-Variable -Name "_e$i" -ValueOnly)
    }
  }
  return $was
}
function win_unenv($names, $was) {
  foreach ($n in ("$names" -split ' ')) {
    if ($n) { Set-Item -LiteralPath "Env:\$n" -Value $was[$n] }
  }
}
