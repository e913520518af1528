# A program with its arguments, without a shell.
cmd_run() {
  lib_clean
  set --
  while IFS= read -r v_w; do set -- "$@" "$v_w"; done <<EOF
$a_argv
EOF
  exec "$@"
}
lib_ready || return "$v_rc"
if [ -n "$a_stdin" ]; then lib_feed | (cmd_run); else (cmd_run); fi
lib_proven $?
