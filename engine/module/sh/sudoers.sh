# One file of /etc/sudoers.d, checked before it counts and read back after.
# su_state: v_have, the text of the file when it is ours; the state of a file of
# ours is its text, that of another one its digest.
su_state() {
  v_have= v_n=0
  if [ -f "$v_path" ] && [ ! -L "$v_path" ]; then
    _out exists true
    while IFS= read -r v_line && [ $v_n -lt 100 ]; do
      v_have=$v_have$v_line$lib_nl v_n=$((v_n + 1))
      if [ $v_n = 1 ] && [ "$v_line" != "$lib_sumark" ]; then v_n=999; fi
    done <"$v_path"
    if [ $v_n -gt 0 ] && [ $v_n -lt 100 ] && [ -z "$v_line" ]; then _state 0 "$v_have"; return 0; fi
    v_have=other v_sum=$(sha256sum <"$v_path")
    _state 0 "sha256=${v_sum%% *}"
  elif [ -e "$v_path" ] || [ -L "$v_path" ]; then
    v_have=other
    _state 0 'not a file'
    _out exists true
  else
    _state 0 absent
    _out exists false
  fi
}
# su_tmp: takes away what a killed run left.
su_tmp() { if [ -e "$v_tmp" ] || [ -L "$v_tmp" ]; then rm -f "$v_tmp"; fi; }
# su_rule RULE: v_rule with NOTAFTER behind the run-as part of its first
# command; it holds for all commands of the list.
su_rule() {
  v_rule=$1
  if [ -z "$v_stamp" ]; then return 0; fi
  case $1 in
  *NOTAFTER=* | Defaults* | *_Alias\ * | '#'*) return 0 ;;
  *=*) ;;
  *) lib_no "not a rule of sudoers: '$1'"; return 1 ;;
  esac
  v_head=${1%%=*} v_tail=${1#*=}
  while :; do case $v_tail in ' '* | "$lib_tab"*) v_tail=${v_tail#?} ;; *) break ;; esac; done
  v_as=
  case $v_tail in '('*')'*) v_as="${v_tail%%)*}) " v_tail=${v_tail#*)} ;; esac
  while :; do case $v_tail in ' '* | "$lib_tab"*) v_tail=${v_tail#?} ;; *) break ;; esac; done
  v_rule="$v_head=${v_as}NOTAFTER=${v_stamp}Z $v_tail"
  # A second host specification would not be covered.
  v_rest=$v_tail
  while :; do
    case $v_rest in *=*) ;; *) break ;; esac
    v_before=${v_rest%%=*} v_rest=${v_rest#*=}
    case $v_before in
    *'\' | *ROLE | *TYPE | *CWD | *CHROOT | *TIMEOUT | *NOTBEFORE | *APPARMOR_PROFILE | *PRIVS | *LIMITPRIVS) ;;
    *) lib_no "a rule with not_after has one host specification; write one rule for each: '$1'"; return 1 ;;
    esac
  done
}
# su_text STAMP: v_text = the whole file.
su_text() {
  v_stamp=$1 v_text="$lib_sumark$lib_nl" v_ok=1
  case $a_comment in
  *"$lib_nl"* | *'\') lib_no "a comment is one line that does not end in a backslash: '$a_comment'"; return 1 ;;
  ?*) v_text="$v_text# $a_comment$lib_nl" ;;
  esac
  while IFS= read -r v_line; do
    if [ -z "$v_line" ]; then continue; fi
    su_rule "$v_line" || { v_ok=; break; }
    v_text="$v_text$v_rule$lib_nl"
  done <<EOF
$a_rules
EOF
  [ -n "$v_ok" ]
}
su_check() {
  umask 0337
  _put "$v_text" >"$v_tmp"
  v_rc=$?
  umask 077
  if [ $v_rc -ne 0 ]; then lib_no "cannot write $v_tmp"; return 1; fi
  v_err=$(visudo -cf "$v_tmp" 2>&1)
}
# su_refused TEXT: all that visudo said, and last the line that names the error.
su_refused() { lib_no "$1"; lib_no "visudo: ${1%%"$lib_nl"*}"; }
su_write() {
  case $v_have in
  '' | "$lib_sumark$lib_nl"*) ;;
  *) lib_no "$v_path exists and is not ours: it stays"; return 1 ;;
  esac
  if ! command -v visudo >/dev/null 2>&1; then lib_no "there is no visudo on this device: sudo is not installed"; return 1; fi
  if [ ! -d /etc/sudoers.d ]; then lib_no "there is no folder /etc/sudoers.d on this device"; return 1; fi
  v_stamp= v_known=true
  if [ -n "$a_not_after" ] && [ "$a_not_after" != never ]; then
    lib_epoch "$a_not_after" || return 1
    lib_stamp "$v_epoch"
  fi
  v_when=$v_stamp
  su_text "$v_when" || return 1
  if [ "$v_text" = "$v_have" ]; then
    _out not_after_supported true
    return 0
  fi
  if [ "$M" = check ]; then lib_diff 0 "$v_have" "$v_text"; _changed; _say "would write $v_path"; return 0; fi
  su_tmp
  if ! su_check; then
    v_first=$v_err
    rm -f "$v_tmp"
    if [ -z "$v_when" ]; then su_refused "$v_err"; return 1; fi
    # Only a sudo that does not know NOTAFTER accepts the rule without it.
    su_text ''
    if ! su_check; then rm -f "$v_tmp"; su_refused "$v_first"; return 1; fi
    v_known=false
    if [ "$v_text" = "$v_have" ]; then rm -f "$v_tmp"; _out not_after_supported false; return 0; fi
  fi
  _out not_after_supported $v_known
  lib_diff 0 "$v_have" "$v_text"
  if ! mv -f "$v_tmp" "$v_path"; then rm -f "$v_tmp"; lib_no "cannot put $v_path into place"; return 1; fi
  _changed
  su_state
  if [ "$v_known" = false ]; then _say "wrote $v_path; this sudo does not know NOTAFTER: the rule does not expire by itself"; else _say "wrote $v_path"; fi
  if [ -n "$a_user" ]; then
    v_back=$(sudo -n -l -U "$a_user" 2>&1)
    v_rc=$?
    case $v_back in
    *"may run the following"*)
      if [ -z "$v_when" ] || [ "$v_known" = false ]; then return 0; fi
      case $v_back in *"NOTAFTER=${v_when}Z"*) return 0 ;; esac
      ;;
    esac
    rm -f "$v_path"
    su_state
    lib_no "sudo does not honour the rule (exit $v_rc); is /etc/sudoers.d included? The file was taken away again: $v_back"
    return 1
  fi
}
case $a_file in '' | *[!A-Za-z0-9_-]*) lib_no "not a file name for sudoers.d: '$a_file' (want [A-Za-z0-9_-]+)"; return 1 ;; esac
v_path=/etc/sudoers.d/$a_file
# sudo ignores names with a dot. The name is always the same, so that whoever
# comes next finds what a killed run left.
v_tmp=$v_path.runner-tmp
su_state
if [ "$M" = probe ]; then return 0; fi
if [ "$a_state" = absent ]; then
  if [ "$M" = apply ]; then su_tmp; fi
  if [ -z "$v_have" ]; then return 0; fi
  if [ -f "$v_path" ]; then lib_diff 0 "$v_have" ''; fi
  _changed
  if [ "$M" = check ]; then _say "would delete $v_path"; return 0; fi
  rm -f "$v_path"
  su_state
  if [ -n "$v_have" ]; then lib_no "cannot delete $v_path"; return 1; fi
  _say "deleted $v_path"
  return 0
fi
su_write
