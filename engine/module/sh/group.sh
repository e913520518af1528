# A group of /etc/group.
group_scan() {
  lib_re "$a_name"
  v_line=$(grep -s -m1 "^$v_re:" /etc/group)
  v_gid= v_mem=
  if [ -n "$v_line" ]; then
    v_r=${v_line#*:*:} v_gid=${v_r%%:*} v_mem=${v_r#*:}
    _state 0 "gid=$v_gid"
    _out exists true
  else
    _state 0 absent
    _out exists false
  fi
  _out gid "${v_gid:-0}"
}
lib_known "$a_name" || return 1
lib_number "$a_gid" gid || return 1
v_want=${a_gid:-0}
group_scan
if [ "$M" = probe ]; then return 0; fi
if [ "$a_state" = absent ]; then
  if [ -z "$v_line" ]; then return 0; fi
  if [ "$v_want" -gt 0 ] && [ "$v_gid" != "$v_want" ]; then lib_no "group $a_name has gid $v_gid, not $v_want: it is another group and stays"; return 1; fi
  if [ "$v_gid" -lt 1000 ] && [ "$a_system" != true ]; then lib_no "group $a_name has the system gid $v_gid: it stays"; return 1; fi
  if [ "$a_if_empty" = true ] && [ -n "$v_mem" ]; then _say "kept: group $a_name has members: $v_mem"; return 0; fi
  _changed
  if [ "$M" = check ]; then lib_diff 0 "gid=$v_gid" absent; _say "would delete group $a_name"; return 0; fi
  if command -v groupdel >/dev/null 2>&1; then lib_retry groupdel -- "$a_name"; else lib_retry delgroup "$a_name"; fi
  group_scan
  [ -z "$v_line" ] || lib_no "groupdel (exit $v_rc): $v_err"
  return
fi
if [ -n "$v_line" ]; then
  if [ "$v_want" -gt 0 ] && [ "$v_gid" != "$v_want" ]; then lib_no "group $a_name exists with gid $v_gid, not $v_want"; return 1; fi
  return 0
fi
_changed
if [ "$M" = check ]; then v_g='the next free one'; if [ "$v_want" -gt 0 ]; then v_g=$v_want; fi; lib_diff 0 absent "gid=$v_g"; _say "would create group $a_name"; return 0; fi
v_g= v_sys=
if [ "$v_want" -gt 0 ]; then v_g=$v_want; fi
if command -v groupadd >/dev/null 2>&1; then
  if [ "$a_system" = true ]; then v_sys=-r; fi
  lib_retry groupadd $v_sys ${v_g:+-g "$v_g"} -- "$a_name"
else
  if [ "$a_system" = true ]; then v_sys=-S; fi
  lib_retry addgroup $v_sys ${v_g:+-g "$v_g"} "$a_name"
fi
if [ $v_rc -ne 0 ]; then lib_no "groupadd (exit $v_rc): $v_err"; return 1; fi
group_scan
[ -n "$v_line" ] || lib_no "group $a_name is not there after its creation"
