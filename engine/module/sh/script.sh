# A program text for an interpreter: through standard input, or when that is for
# the program, through a descriptor that the interpreter opens by its name.
lib_ready || return "$v_rc"
(
  lib_clean
  set --
  if [ -n "$a_args" ]; then
    while IFS= read -r v_w; do set -- "$@" "$v_w"; done <<EOF
$a_args
EOF
  fi
  if [ -n "$a_stdin" ]; then
    v_w=/dev/fd/3
    [ -e /dev/fd/0 ] || v_w=/proc/self/fd/3
    _put "$a_text$lib_nl" | {
      exec 3<&0
      lib_feed | "$a_interpreter" "$v_w" "$@"
    }
    exit
  fi
  case ${a_interpreter##*/} in
  sh | bash | dash | ash | ksh | zsh) _put "$a_text$lib_nl" | "$a_interpreter" -s -- "$@" ;;
  *) _put "$a_text$lib_nl" | "$a_interpreter" - "$@" ;;
  esac
)
lib_proven $?
