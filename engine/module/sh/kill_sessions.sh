# Ends every session and process of a uid, or those that keep groups.
# ks_lost: v_gids = numbers of the groups that the account is not in any more.
ks_lost() {
  v_gids=' '
  while IFS= read -r v_g; do
    if [ -z "$v_g" ]; then continue; fi
    lib_known "$v_g" || return 1
    lib_re "$v_g"
    v_line=$(grep -s -m1 "^$v_re:" /etc/group)
    if [ -z "$v_line" ]; then continue; fi
    case ",${v_line##*:}," in *",$a_name,"*) continue ;; esac
    v_r=${v_line#*:*:} v_r=${v_r%%:*}
    if [ "$v_r" != "$v_pgid" ]; then v_gids="$v_gids$v_r "; fi
  done <<EOF
$a_groups
EOF
}
# ks_own: v_own = this program and those that it runs in.
ks_own() {
  v_own=' ' v_p=$$
  while [ "${v_p:-0}" -gt 1 ] 2>/dev/null; do
    v_own="$v_own$v_p " v_pp=
    { while read -r v_k v_a v_b; do case $v_k in PPid:) v_pp=$v_a; break ;; esac; done <"/proc/$v_p/status"; } 2>/dev/null
    v_p=$v_pp
  done
}
# ks_find: v_procs = the processes that are meant.
ks_find() {
  lib_procs "$v_want" "$v_ranges"
  v_all=$v_procs v_procs=
  for v_p in $v_all; do
    case $v_own in *" $v_p "*) continue ;; esac
    if [ -n "$a_groups" ]; then
      v_has=
      for v_g in $(sed -n 's/^Gid:[[:space:]]*//p; s/^Groups:[[:space:]]*//p' "/proc/$v_p/status" 2>/dev/null); do
        case $v_gids in *" $v_g "*) v_has=1 ;; esac
      done
      if [ -z "$v_has" ]; then continue; fi
    fi
    v_procs="$v_procs $v_p"
  done
}
# ks_some ends, or lists, those that are meant.
ks_some() {
  v_pgid= v_gids= v_killed= v_round=0
  _out killed '' remaining ''
  if [ -n "$a_groups" ]; then
    if [ -z "$a_name" ]; then lib_no "groups needs the name of the account"; return 1; fi
    v_r=${v_pwline#*:*:*:} v_pgid=${v_r%%:*}
    ks_lost || return 1
    if [ "$v_gids" = ' ' ]; then return 0; fi
  fi
  ks_own
  ks_find
  lib_noted
  v_out=${v_killed%"$lib_nl"}
  if [ -z "$v_procs" ]; then return 0; fi
  if [ "$a_end" = false ]; then _out remaining "$v_out"; _say "left running: $v_killed"; return 0; fi
  _changed
  if [ "$M" != apply ]; then _say "would end: $v_killed"; return 0; fi
  kill -TERM $v_procs 2>/dev/null
  while [ -n "$v_procs" ] && [ $v_round -lt $((v_wait * 10 + 30)) ]; do
    lib_nap
    ks_find
    lib_noted
    if [ $v_round -ge $((v_wait * 10)) ] && [ -n "$v_procs" ]; then kill -KILL $v_procs 2>/dev/null; fi
    v_round=$((v_round + 1))
  done
  _out killed "${v_killed%"$lib_nl"}"
  if [ -n "$v_procs" ]; then
    v_killed=
    lib_noted
    _out remaining "${v_killed%"$lib_nl"}"
    lib_no "processes of uid $v_want do not end: $v_killed"
    return 1
  fi
}
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
if [ -n "$a_groups" ] || [ "$a_end" = false ]; then ks_some; return; fi
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
