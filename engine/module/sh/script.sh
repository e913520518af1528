# A program text for an interpreter, through standard input.
if [ "$M" = probe ]; then return 0; fi
lib_due || return 0
_changed
lib_stale
if [ "$M" = check ]; then _say 'would run'; return 0; fi
(
  lib_clean
  set --
  if [ -n "$a_args" ]; then
    while IFS= read -r v_w; do set -- "$@" "$v_w"; done <<EOF
$a_args
EOF
  fi
  case ${a_interpreter##*/} in
  sh | bash | dash | ash | ksh | zsh) _put "$a_text$lib_nl" | "$a_interpreter" -s -- "$@" ;;
  *) _put "$a_text$lib_nl" | "$a_interpreter" - "$@" ;;
  esac
)
