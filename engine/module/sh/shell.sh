# A script of the author; its values are in _r1, _r2, and so on.
sh_run() {
  lib_clean
  eval "$a_cmd"
}
lib_ready || return "$v_rc"
if [ -n "$a_stdin" ]; then lib_feed | (sh_run); else (sh_run); fi
lib_proven $?
