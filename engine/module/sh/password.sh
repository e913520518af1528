# The password of an account, through standard input only.
pw_state() {
  lib_scan "$a_user" 0
  # Which password it is stays here: nothing could put the old one back.
  case $v_pwhash in '' | '*' | '!'*) _state 0 absent ;; *) _state 0 set ;; esac
}
lib_known "$a_user" || return 1
case $a_password in *"$lib_nl"*) lib_no "a password cannot contain a line break"; return 1 ;; esac
pw_state
if [ "$M" = probe ]; then return 0; fi
if [ -z "$v_pwline" ]; then lib_no "there is no account $a_user in /etc/passwd"; return 1; fi
if [ -z "$a_password" ]; then lib_no "the password is empty"; return 1; fi
v_e=
if [ "$a_encrypted" = true ]; then
  v_e=-e
  case $a_password in
  '$'*'$'*) ;;
  *) lib_no "encrypted is true, but the password is not a crypt hash"; return 1 ;;
  esac
  case $a_password in *:*) lib_no "the password is not a crypt hash"; return 1 ;; esac
  if [ "$v_pwhash" = "$a_password" ]; then return 0; fi
fi
_changed
if [ "$M" = check ]; then _say "would set the password of $a_user"; return 0; fi
v_old=$v_pwhash v_try=0
lib_stale
while :; do
  v_err=$(_put "$a_user:$a_password$lib_nl" | chpasswd $v_e 2>&1)
  v_rc=$?
  case $v_rc:$v_err in 0:*) break ;; *"annot lock"* | *"try again"*) ;; *) break ;; esac
  v_try=$((v_try + 1))
  if [ $v_try -gt 5 ]; then break; fi
  sleep 1
done
pw_state
if [ $v_rc -ne 0 ]; then lib_no "chpasswd (exit $v_rc): $v_err"; return 1; fi
case $v_pwhash in '' | '*' | '!'*) lib_no "$a_user has no usable password after chpasswd"; return 1 ;; esac
if [ "$v_pwhash" = "$v_old" ]; then lib_no "the password of $a_user was not changed"; return 1; fi
v_pwhash= v_spline= v_old=
_say "set the password of $a_user"
