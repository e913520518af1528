# lib_due: 1 when creates or removes say that there is nothing to do.
lib_due() {
  if [ -n "$a_creates" ] && { [ -e "$a_creates" ] || [ -L "$a_creates" ]; }; then _say "$a_creates is there already"; return 1; fi
  if [ -n "$a_removes" ] && [ ! -e "$a_removes" ] && [ ! -L "$a_removes" ]; then _say "$a_removes is not there"; return 1; fi
}
# lib_clean: in a subshell, hides what belongs to runner from what it starts.
lib_clean() { unset _N __n __rs; lib_env; if [ -n "$a_chdir" ]; then cd "$a_chdir" || exit 1; fi; }
# lib_env: sets the variables that an author named; the names were checked.
lib_env() { v_n=0; for v_w in $a_env; do v_n=$((v_n + 1)); eval "$v_w=\$_e$v_n; export $v_w"; done; }
# lib_feed: what an author gives to a program, on standard output. One that does
# not read all of it is no failure.
lib_feed() { _put "$a_stdin" 2>/dev/null; }
# lib_look: has the author's probe say whether what the step is about is there:
# exit 0 is present, 1 absent, anything else an error.
lib_look() {
  v_is=
  [ -n "$_probe" ] || return 0
  (lib_clean; eval "$_probe") >/dev/null 2>&1
  v_rc=$?
  case $v_rc in
  0) v_is=present ;;
  1) v_is=absent ;;
  *) echo "its probe ended with $v_rc; 0 says that it is there and 1 that it is not" >&2; return 1 ;;
  esac
  _state 0 "$v_is"
}
# lib_ready: 0 when there is something to run; else v_rc is what the step returns.
lib_ready() {
  lib_look || { v_rc=1; [ "$M" != probe ] || v_rc=0; return 1; }
  v_rc=0
  [ "$M" != probe ] || return 1
  lib_due || return 1
  if [ -n "$v_is" ] && [ "$v_is" = "$_want" ]; then _say "it is $v_is already"; return 1; fi
  _changed
  lib_stale
  if [ "$M" = check ]; then _say 'would run'; return 1; fi
}
# lib_proven RC: RC, or 1 when the probe does not find what should be there now.
lib_proven() {
  [ "$1" = 0 ] && [ -n "$_probe" ] || return "$1"
  lib_look || return
  [ "$v_is" = "$_want" ] || { echo "it has run, and its probe says: $v_is" >&2; return 1; }
}
