# A program with its arguments, without a shell.
cmd_run() {
  lib_clean
  set --
  while IFS= read -r v_w; do set -- "$@" "$v_w"; done <<EOF
$a_argv
EOF
  exec "$@"
}
if [ "$M" = probe ]; then return 0; fi
lib_due || return 0
_changed
lib_stale
if [ "$M" = check ]; then _say 'would run'; return 0; fi
if [ -n "$a_stdin" ]; then lib_feed | (cmd_run); else (cmd_run); fi
