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
