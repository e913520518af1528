# A script of the author; its values are in _r1, _r2, and so on.
sh_run() {
  lib_clean
  eval "$a_cmd"
}
if [ "$M" = probe ]; then return 0; fi
lib_due || return 0
_changed
lib_stale
if [ "$M" = check ]; then _say 'would run'; return 0; fi
if [ -n "$a_stdin" ]; then lib_feed | (sh_run); else (sh_run); fi
