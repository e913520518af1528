# lib_safe PATH: 1 unless every folder above PATH belongs to root, so that
# nobody can swap what we write to. Who asks will write, maybe below /etc.
lib_safe() {
  lib_stale
  v_up=${1%/*} v_ups=
  while [ -n "$v_up" ]; do v_ups="$v_ups$v_up$lib_nl" v_up=${v_up%/*}; done
  if [ -z "$v_ups" ]; then return 0; fi
  v_owners=$(IFS=$lib_nl; set -f; stat -L -c %u $v_ups 2>&1)
  case $lib_nl$v_owners$lib_nl in
  *[!0"$lib_nl"]*) lib_no "a folder above $1 is missing or does not belong to root"; return 1 ;;
  esac
}

# lib_filestate PATH: v_fs = what PATH is now: absent, or kind, mode and owner,
# with a digest of a file; v_kind is the kind alone.
lib_filestate() {
  v_fs=absent v_kind=absent
  if [ ! -e "$1" ] && [ ! -L "$1" ]; then return 0; fi
  v_fs=$(stat -c '%a %u %g %F' "$1")
  if [ -L "$1" ]; then v_kind=link
  elif [ -d "$1" ]; then v_kind=directory
  elif [ -f "$1" ]; then v_kind=file v_sum=$(sha256sum <"$1") v_fs="$v_fs ${v_sum%% *}"
  else v_kind=special; fi
}

# lib_text FILE: prints the first 64 KB of a file of text.
lib_text() { head -c 65536 -- "$1" | tr -d '\000'; }

# lib_grant PATH MODE OWNER GROUP: sets those that are given.
lib_grant() {
  if [ -n "$3$4" ]; then chown -h -- "$3${4:+:$4}" "$1" || return 1; fi
  if [ -n "$2" ]; then chmod -- "$2" "$1" || return 1; fi
}
lib_words() { case $1 in *[!A-Za-z0-9_.@-]*) lib_no "not a name: '$1'"; return 1 ;; esac; case $2 in *[!0-7]*) lib_no "not an octal mode: '$2'"; return 1 ;; esac; }
