# What there is of an account, by name, by uid or by both.
lib_number "$a_uid" uid || return 1
v_want=${a_uid:-0} v_nm=$a_name
if [ -n "$v_nm" ]; then lib_known "$v_nm" || return 1; fi
if [ -z "$v_nm" ] && [ "$v_want" -eq 0 ]; then lib_no "neither name nor uid is given"; return 1; fi
lib_scan "$v_nm" "$v_want"
v_holder=$v_byuid
if [ -n "$v_pwline" ] && [ "$v_uid" = "$v_want" ]; then v_holder="$v_nm${v_byuid:+ }$v_byuid"; fi
if [ -z "$v_nm" ] && [ -n "$v_byuid" ]; then
  v_nm=${v_byuid%% *}
  lib_scan "$v_nm" "$v_want"
fi
v_local=true
if [ -z "$v_pwline" ]; then
  lib_nss "${v_nm:-$v_want}"
  if [ -z "$v_nm" ] && command -v getent >/dev/null 2>&1; then v_line=$(getent passwd "$v_want" 2>/dev/null); fi
  if [ -n "$v_line" ]; then
    v_pwline=$v_line v_local=false v_nm=${v_line%%:*}
    lib_split "$v_pwline"
    if [ "$v_uid" = "$v_want" ]; then v_holder=$v_nm; fi
  else
    v_local=false
  fi
fi
v_groups= v_in=false
if [ -z "$v_pwline" ]; then
  if [ "$v_want" -gt 0 ] && [ "$a_brief" != true ]; then
    lib_procs "$v_want"
    if [ -n "$v_procs" ]; then v_in=true; fi
  fi
  _out by_uid_name "$v_holder" local $v_local exists false name "$a_name" uid "$v_want" gid 0 locked false expired false logged_in $v_in
  return 0
fi
if [ "$a_brief" != true ]; then
  lib_procs "$v_uid"
  if [ -n "$v_procs" ]; then v_in=true; fi
fi
if [ "$a_brief" != true ] && command -v id >/dev/null 2>&1; then
  for v_g in $(id -Gn "$v_nm" 2>/dev/null); do v_groups="$v_groups${v_groups:+$lib_nl}$v_g"; done
fi
v_until=never v_locked=false v_over=false
case $v_pwhash in '!'*) v_locked=true ;; esac
if [ -n "$v_spexp" ]; then lib_date "$v_spexp"; v_until=${v_date}T00:00:00Z; if [ "$v_spexp" -le $(($(date +%s) / 86400)) ]; then v_over=true; fi; fi
_out by_uid_name "$v_holder" local $v_local exists true name "$v_nm" uid "$v_uid" gid "$v_gid" home "$v_home" shell "$v_shell" \
  comment "$v_gecos" locked $v_locked groups "$v_groups" expires "$v_until" expired $v_over logged_in $v_in
