# A file with given content, put into place in one go.
lib_path "$a_dest" dest || return 1
lib_words "$a_owner$a_group" "$a_mode" || return 1
lib_filestate "$a_dest"
v_was=$v_fs
_state 0 "$v_fs"
if [ "$M" = probe ]; then return 0; fi
if [ "$v_kind" = directory ]; then lib_no "$a_dest is a folder"; return 1; fi
v_new=$(_put "$a_content" | sha256sum)
v_new=${v_new%% *}
v_same=
if [ "$v_kind" = file ] && [ "${v_fs##* }" = "$v_new" ]; then v_same=1; fi
if [ "$v_kind" != absent ] && [ -z "$v_same" ] && [ "$a_exists" != update ]; then lib_no "$a_dest exists already with other content"; return 1; fi
if [ -n "$v_same" ] && [ "$a_exists" != update ]; then return 0; fi
if [ -n "$_diff" ] && [ -z "$v_same" ]; then
  v_old=
  if [ "$v_kind" = file ]; then v_old=$(lib_text "$a_dest"); fi
  lib_diff 0 "$v_old" "$a_content"
fi
if [ "$M" = check ]; then
  if [ -z "$v_same" ]; then _changed; _say "would write $a_dest"; fi
  return 0
fi
lib_safe "$a_dest" || return 1
v_rc=0
if [ -z "$v_same" ]; then
  v_tmp=${a_dest%/*}/.${a_dest##*/}.runner-tmp
  rm -f "$v_tmp"
  (set -C; _put "$a_content" >"$v_tmp") && lib_grant "$v_tmp" "$a_mode" "$a_owner" "$a_group" && mv -f -- "$v_tmp" "$a_dest" || v_rc=1
  if [ $v_rc -ne 0 ]; then rm -f "$v_tmp"; fi
else
  lib_grant "$a_dest" "$a_mode" "$a_owner" "$a_group" || v_rc=1
fi
lib_filestate "$a_dest"
if [ "$v_fs" != "$v_was" ]; then _changed; fi
_state 0 "$v_fs"
return $v_rc
