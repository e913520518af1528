# A folder or an empty file, or the absence of anything.
lib_path "$a_path" path || return 1
lib_words "$a_owner$a_group" "$a_mode" || return 1
lib_filestate "$a_path"
v_was=$v_fs
fl_say() { _state 0 "$v_fs"; if [ "$v_kind" = absent ]; then _out exists false; else _out exists true; fi; }
fl_say
if [ "$M" = probe ]; then return 0; fi
case $a_path in / | /etc | /usr | /var | /home | /root | /bin | /sbin | /lib | /lib64 | /boot | /dev | /proc | /sys | /run | /tmp | /opt | /srv) lib_no "$a_path itself is never changed"; return 1 ;; esac
if [ "$a_state" = absent ]; then
  # what a killed copy left beside it
  if [ "$M" = apply ]; then rm -f -- "${a_path%/*}/.${a_path##*/}.runner-tmp"; fi
  if [ "$v_kind" = absent ]; then return 0; fi
  if [ "$M" = check ]; then lib_diff 0 "$v_fs" absent; _changed; _say "would delete $a_path"; return 0; fi
  lib_safe "$a_path" || return 1
  v_rc=0
  if [ "$v_kind" != directory ]; then rm -f -- "$a_path"
  elif [ "$a_recursive" = true ]; then lib_rmtree "$a_path" || v_rc=1
  else rmdir -- "$a_path" || v_rc=1; fi
  lib_filestate "$a_path"
  if [ "$v_fs" != "$v_was" ]; then _changed; fi
  fl_say
  [ $v_rc -eq 0 ] && [ "$v_kind" = absent ]
  return
fi
if [ "$v_kind" != absent ]; then
  if [ "$v_kind" != "$a_state" ]; then lib_no "$a_path is there and is not a $a_state"; return 1; fi
  case $a_exists in
  adopt) return 0 ;;
  update) ;;
  *) lib_no "$a_path exists already"; return 1 ;;
  esac
fi
if [ "$M" = check ]; then
  if [ "$v_kind" = absent ]; then lib_diff 0 absent "$a_state${a_mode:+ $a_mode}"; _changed; _say "would create $a_path"; fi
  return 0
fi
lib_safe "$a_path" || return 1
v_rc=0
if [ "$v_kind" = absent ]; then
  if [ "$a_state" = directory ]; then mkdir -- "$a_path" || v_rc=1; else (set -C; : >"$a_path") || v_rc=1; fi
fi
if [ $v_rc -eq 0 ]; then lib_grant "$a_path" "$a_mode" "$a_owner" "$a_group" || v_rc=1; fi
lib_filestate "$a_path"
if [ "$v_fs" != "$v_was" ]; then _changed; fi
fl_say
return $v_rc
