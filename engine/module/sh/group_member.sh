# Single edges between an account and groups; other edges are never written.
# gm_scan GROUP: v_line, and v_is=1 when the account is in it.
gm_scan() {
  v_line= v_is=
  while IFS= read -r v_l; do
    case $v_l in "$1:"*) v_line=$v_l ;; esac
  done <<EOF
$v_all
EOF
  if [ -z "$v_line" ]; then return 0; fi
  case ",${v_line##*:}," in *",$a_user,"*) v_is=1 ;; esac
  v_r=${v_line#*:*:}
  if [ -n "$v_pgid" ] && [ "${v_r%%:*}" = "$v_pgid" ]; then v_is=1; fi
}
gm_read() {
  v_all=$(grep -sE "^($v_alt):" /etc/group)
}
# gm_report: the states of all objects, in the order of their declaration.
gm_report() {
  v_i=0
  for v_g in $v_list; do
    gm_scan "$v_g"
    if [ "$v_objs" = 2 ]; then
      if [ -n "$v_line" ]; then v_r=${v_line#*:*:}; _state $v_i "gid=${v_r%%:*}"; else _state $v_i absent; fi
      v_i=$((v_i + 1))
    fi
    if [ -n "$v_is" ]; then _state $v_i "member$v_id"; else _state $v_i absent; fi
    v_i=$((v_i + 1))
  done
}
# gm_add GROUP and gm_del GROUP: one edge.
gm_add() {
  if command -v gpasswd >/dev/null 2>&1; then lib_retry gpasswd -a "$a_user" "$1"
  elif command -v usermod >/dev/null 2>&1; then lib_retry usermod -a -G "$1" -- "$a_user"
  else lib_retry addgroup "$a_user" "$1"; fi
}
gm_del() {
  if command -v gpasswd >/dev/null 2>&1; then lib_retry gpasswd -d "$a_user" "$1"; else lib_retry delgroup "$a_user" "$1"; fi
}
lib_known "$a_user" || return 1
v_list= v_alt= v_objs=1 v_ok=1
if [ "$a_missing_group" = create ] && [ "$a_state" != absent ]; then v_objs=2; fi
while IFS= read -r v_g; do
  if [ -z "$v_g" ]; then continue; fi
  lib_known "$v_g" || v_ok=
  lib_re "$v_g"
  v_list="$v_list $v_g" v_alt="$v_alt${v_alt:+|}$v_re"
done <<EOF
$a_groups
EOF
if [ -z "$v_ok" ]; then return 1; fi
v_pgid= v_pwline= v_local=1 v_id=
lib_re "$a_user"
v_pwline=$(grep -s -m1 "^$v_re:" /etc/passwd)
if [ -z "$v_pwline" ]; then lib_nss "$a_user"; v_pwline=$v_line v_local=; fi
if [ -n "$v_pwline" ]; then v_r=${v_pwline#*:*:} v_id=" uid=${v_r%%:*}" v_r=${v_r#*:} v_pgid=${v_r%%:*}; fi
gm_read
gm_report
if [ "$M" = probe ]; then return 0; fi
v_todo= v_missing= v_already= v_added= v_created=
for v_g in $v_list; do
  gm_scan "$v_g"
  if [ -z "$v_line" ]; then v_missing="$v_missing $v_g"; fi
  case $a_state:$v_is in
  present:1) v_already="$v_already $v_g" ;;
  absent:1)
    case ",${v_line##*:}," in *",$a_user,"*) v_todo="$v_todo $v_g" ;; *) lib_no "$v_g is the primary group of $a_user: that edge stays"; return 1 ;; esac
    ;;
  absent:) v_already="$v_already $v_g" ;;
  *) v_todo="$v_todo $v_g" ;;
  esac
done
gm_words() { v_w=; for v_g in $1; do v_w="$v_w${v_w:+$lib_nl}$v_g"; done; }
gm_words "$v_missing"; _out missing "$v_w"
gm_words "$v_already"; _out already "$v_w"
if [ -n "$v_missing" ] && [ "$a_state" != absent ] && [ "$a_missing_group" != create ]; then
  lib_no "there is no group$v_missing"
  return 1
fi
if [ -n "$v_todo" ] && [ -z "$v_pwline" ] && [ "$a_state" != absent ]; then lib_no "there is no account $a_user"; return 1; fi
if [ "$M" = check ]; then
  if [ -n "$v_todo" ]; then _changed; if [ "$a_state" = absent ]; then _say "would leave:$v_todo"; else _say "would join:$v_todo"; fi; fi
  return 0
fi
v_bad=
if [ "$a_state" = absent ]; then
  for v_g in $v_todo; do
    gm_del "$v_g"
    if [ $v_rc -eq 0 ]; then v_added="$v_added $v_g"; fi
    gm_read; gm_scan "$v_g"
    if [ -n "$v_is" ]; then lib_no "cannot take $a_user out of $v_g (exit $v_rc): $v_err"; v_bad=1; fi
  done
else
  for v_g in $v_missing; do
    if command -v groupadd >/dev/null 2>&1; then lib_retry groupadd -- "$v_g"; else lib_retry addgroup "$v_g"; fi
    if [ $v_rc -ne 0 ]; then lib_no "groupadd $v_g (exit $v_rc): $v_err"; v_bad=1; break; fi
    v_created="$v_created $v_g"
  done
  if [ -z "$v_bad" ] && [ -n "$v_todo" ] && [ -n "$v_local" ] && command -v usermod >/dev/null 2>&1; then
    v_csv=
    for v_g in $v_todo; do v_csv="$v_csv${v_csv:+,}$v_g"; done
    lib_retry usermod -a -G "$v_csv" -- "$a_user"
    if [ $v_rc -ne 0 ]; then lib_no "usermod (exit $v_rc): $v_err"; v_bad=1; fi
  elif [ -z "$v_bad" ]; then
    for v_g in $v_todo; do
      gm_add "$v_g"
      if [ $v_rc -ne 0 ]; then lib_no "cannot put $a_user into $v_g (exit $v_rc): $v_err"; v_bad=1; fi
    done
  fi
  if [ -n "$v_todo" ]; then gm_read; fi
  for v_g in $v_todo; do
    gm_scan "$v_g"
    if [ -n "$v_is" ]; then v_added="$v_added $v_g"; elif [ -z "$v_bad" ]; then lib_no "$a_user is not in $v_g after joining it"; v_bad=1; fi
  done
fi
gm_words "$v_added"; _out added "$v_w"
gm_words "$v_created"; _out created "$v_w"
if [ -n "$v_added$v_created" ]; then
  _changed
  if [ "$a_state" = absent ]; then _say "left:$v_added"; else _say "joined:$v_added"; fi
fi
gm_report
[ -z "$v_bad" ]
