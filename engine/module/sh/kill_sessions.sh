# Ends every session and process of a uid.
lib_number "$a_uid" uid || return 1
v_want=${a_uid:-0} v_ranges=
if [ "$v_want" -lt 1000 ]; then
  if [ "$v_want" -eq 0 ] || [ "$a_allow_system" != true ]; then lib_no "processes of the system uid $v_want are not ended"; return 1; fi
fi
v_wait=${a_grace:-2}
v_wait=${v_wait%%.*}
case $v_wait in '' | *[!0-9]* | ????*) v_wait=2 ;; esac
# Containers of the account run under its subordinate uids.
if [ -n "$a_name" ]; then
  lib_known "$a_name" || return 1
  lib_scan "$a_name" "$v_want"
  if [ "$v_uid" = "$v_want" ]; then v_ranges=$v_subuid; fi
fi
if [ "$M" = probe ]; then return 0; fi
lib_procs "$v_want" "$v_ranges"
_out killed '' remaining ''
if [ -z "$v_procs" ] && [ ! -e "/run/systemd/users/$v_want" ]; then return 0; fi
v_killed=
lib_noted
if [ "$M" != apply ]; then
  if [ -n "$v_killed" ]; then _changed; _say "would end: $v_killed"; fi
  return 0
fi
if lib_mine "$v_want"; then lib_no "uid $v_want is the one this session runs as"; return 1; fi
v_first=$v_killed
# The session manager also ends what runs as another uid in these sessions.
if [ -e "/run/systemd/users/$v_want" ] && command -v loginctl >/dev/null 2>&1; then
  loginctl terminate-user "$v_want" >/dev/null 2>&1
fi
lib_kill "$v_want" "$v_wait" "$v_ranges"
v_rc=$?
# What was there before loginctl counts as well.
while IFS= read -r v_l; do
  case $lib_nl$v_killed in *"$lib_nl${v_l%% *} "*) ;; *) if [ -n "$v_l" ]; then v_killed="$v_l$lib_nl$v_killed"; fi ;; esac
done <<EOF
$v_first
EOF
v_out=${v_killed%"$lib_nl"}
_out killed "$v_out"
if [ -n "$v_out" ]; then _changed; fi
if [ $v_rc -ne 0 ]; then
  v_killed=
  lib_noted
  _out remaining "${v_killed%"$lib_nl"}"
  lib_no "processes of uid $v_want do not end: $v_killed"
  return 1
fi
