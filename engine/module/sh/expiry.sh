# The day on which an account expires.
lib_known "$a_user" || return 1
lib_day "$a_expires" || return 1
lib_scan "$a_user" 0
ex_state() {
  if [ -z "$v_spline" ]; then _state 0 absent; v_now=absent; return 0; fi
  v_now=never
  if [ -n "$v_spexp" ]; then lib_date "$v_spexp"; v_now=${v_date}T00:00:00Z; fi
  _state 0 "$v_now"
  _out expires "$v_now"
}
ex_state
if [ "$M" = probe ]; then return 0; fi
if [ -z "$v_spline" ]; then lib_no "there is no account $a_user in /etc/shadow"; return 1; fi
if [ "$v_spexp" = "$v_day" ]; then return 0; fi
_changed
if [ "$M" = check ]; then lib_diff 0 "$v_now" "$a_expires"; _say "would set the expiry of $a_user to $a_expires"; return 0; fi
v_date=
if [ -n "$v_day" ]; then lib_date "$v_day"; fi
if command -v usermod >/dev/null 2>&1; then lib_retry usermod -e "$v_date" -- "$a_user"
else lib_no "this device has no usermod: busybox accounts cannot expire"; return 1; fi
if [ $v_rc -ne 0 ]; then lib_no "usermod (exit $v_rc): $v_err"; return 1; fi
lib_scan "$a_user" 0
ex_state
[ "$v_spexp" = "$v_day" ] || lib_no "the expiry of $a_user was not stored"
