# A program text for an interpreter, through standard input.
lib_ready || return "$v_rc"
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
lib_proven $?
