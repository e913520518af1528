# Whether an account can be used: a lock of its password, its expiry.
# en_state: v_can=1 when it can be used; v_lock says how its password is locked:
# hash, or bare and the mark that stands where there is no password.
en_state() {
  lib_stale
  lib_scan "$a_user" 0
  v_can= v_lock= v_past=
  if [ -z "$v_pwline" ] || [ -z "$v_spline" ]; then v_is=absent; _state 0 absent; _out enabled false; return 0; fi
  case $v_pwhash in
  '!'*)
    v_r=$v_pwhash
    while :; do case $v_r in '!'*) v_r=${v_r#!} ;; *) break ;; esac; done
    case $v_r in '' | '*'*) v_lock=bare:$v_pwhash ;; *) v_lock=hash ;; esac
    ;;
  esac
  if [ -n "$v_spexp" ] && [ "$v_spexp" -le $(($(date +%s) / 86400)) ]; then v_past=1; fi
  if [ -z "$v_lock$v_past" ]; then
    v_can=1 v_is="enabled uid=$v_uid expires=$v_spexp"
    _out enabled true
  else
    v_is="absent uid=$v_uid lock=$v_lock expires=$v_spexp"
    _out enabled false
  fi
  _state 0 "$v_is"
}
# en_do WORDS...: usermod with them.
en_do() {
  if ! command -v usermod >/dev/null 2>&1; then lib_no "this device has no usermod: its accounts cannot be enabled for a while"; return 1; fi
  lib_retry usermod "$@" -- "$a_user"
  [ $v_rc -eq 0 ] || lib_no "usermod (exit $v_rc): $v_err"
}
# en_mark TEXT DAY: what stands where there is no password, and the expiry. usermod
# would note that the password was changed.
en_mark() {
  a_name=$a_user v_mark=$1:$2
  lib_lock || return 1
  lib_edit /etc/shadow '$1==n {split(value,w,":"); $2=w[1]; $8=w[2]} {print}' "$v_mark"
  v_rc=$?
  lib_unlock
  return $v_rc
}
# en_set LOCK DAY: -U, -L or nothing, and the expiry; empty is never. It is one write:
# between two of them the account would be as nobody has ever seen it.
en_set() {
  v_date=
  if [ "$2" = "$v_spexp" ]; then
    if [ -n "$1" ]; then en_do "$1"; fi
    return
  fi
  if [ -n "$2" ]; then lib_date "$2"; fi
  en_do ${1:+"$1"} -e "$v_date"
}
en_present() {
  if [ "$v_is" = absent ]; then lib_no "there is no account $a_user in /etc/passwd and /etc/shadow"; return 1; fi
  if [ "$v_uid" -eq 0 ]; then lib_no "$a_user has uid 0: it is not enabled for a while"; return 1; fi
  if [ "${a_uid:-0}" -gt 0 ] && [ "$v_uid" != "$a_uid" ]; then lib_no "account $a_user has uid $v_uid, not $a_uid: it is another account"; return 1; fi
  case $v_shell in */nologin | */false) lib_no "the login shell of $a_user is $v_shell: to enable it would let nobody in"; return 1 ;; esac
  if [ -n "$v_can" ]; then
    if [ -z "$v_spexp" ] || { [ -n "$v_day" ] && [ "$v_spexp" -ge "$v_day" ]; }; then return 0; fi
  fi
  _changed
  if [ "$M" = check ]; then lib_diff 0 "$v_is" enabled; _say "would enable $a_user"; return 0; fi
  case $v_lock in
  hash) en_set -U "$v_day" || return 1 ;;
  bare:*) en_mark '*' "$v_day" || return 1 ;;
  *) en_set '' "$v_day" || return 1 ;;
  esac
  en_state
  if [ -z "$v_can" ]; then lib_no "account $a_user is still disabled: $v_is"; return 1; fi
  _say "enabled $a_user"
}
# en_absent: puts back what was says. An account that can be used is disabled; one
# that cannot is left as it is.
en_absent() {
  if [ "$v_is" = absent ] || [ "$v_is" = "$a_was" ]; then return 0; fi
  case $a_was in
  'absent uid='*' lock='*' expires='* | 'enabled uid='*' expires='*) ;;
  *) lib_no "with state absent, was has to say what is put back: '$a_was'"; return 1 ;;
  esac
  v_r=${a_was#*uid=}
  if [ "${v_r%% *}" != "$v_uid" ]; then lib_no "account $a_user has uid $v_uid, not ${v_r%% *}: it is another account and stays"; return 1; fi
  if [ -z "$v_can" ]; then return 0; fi
  v_old=${a_was##*expires=} v_how=
  lib_number "$v_old" expires || return 1
  case $a_was in absent*) v_r=${a_was#* lock=} v_how=${v_r%% *} ;; esac
  _changed
  if [ "$M" = check ]; then lib_diff 0 "$v_is" "$a_was"; _say "would put $a_user back"; return 0; fi
  case $v_how:$v_pwhash in
  'bare:!'*:'*') v_r=${v_how#bare:}; en_mark "$v_r" "$v_old" || return 1 ;;
  hash:* | bare:*) en_set -L "$v_old" || return 1 ;; # bare: it was given a password meanwhile
  *) en_set '' "$v_old" || return 1 ;;
  esac
  en_state
  case $a_was in absent*) if [ -n "$v_can" ]; then lib_no "account $a_user can still be used: $v_is"; return 1; fi ;; esac
  _say "put $a_user back: ${v_is%% *}"
}
lib_known "$a_user" || return 1
lib_number "$a_uid" uid || return 1
lib_day "$a_expires" || return 1
en_state
if [ "$M" = probe ]; then return 0; fi
if [ "$a_state" = absent ]; then en_absent; else en_present; fi
