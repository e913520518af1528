# What says on the device that runner made it, and accounts that the caller asks for.
$items = @()
$tab = [string][char]9
$ticks = "$((Get-Date).ToUniversalTime().Ticks)"
_out 'clock' "$([long]$ticks.Substring(0, $ticks.Length - 7) - 62135596800)"
foreach ($u in @(Get-LocalUser)) {
  $text = "$($u.Description)"
  $its = $false
  if ($text.Length -gt 9) { $its = ($text.Substring(0, 9) -eq 'runner g-') }
  foreach ($one in @($a.names)) { if ($u.Name -eq $one) { $its = $true } }
  foreach ($one in @($a.sids)) { if ("$($u.SID)" -eq $one) { $its = $true } }
  if ($its) {
    $state = 'locked'
    if ($u.Enabled) { $state = 'open' }
    $groups = ''
    $cim = Get-CimInstance -ClassName Win32_UserAccount -Filter "LocalAccount=TRUE AND SID='$($u.SID)'"
    if ($cim) {
      foreach ($one in @(Get-CimAssociatedInstance -InputObject $cim -Association Win32_GroupUser)) { $groups = $groups + "$($one.SID)" + ',' }
    }
    $items = $items + ('account' + $tab + $u.Name + $tab + "$($u.SID)" + $tab + $state + $tab + (win_utc $u.AccountExpires) + $tab + $groups + $tab + $text)
  }
}
_out 'items' $items
