# A compressed tar of a file or folder, or the folder itself moved away. One
# that is there is kept: the source may be gone by now.
lib_path "$a_src" src && lib_path "$a_dest" dest || return 1
lib_words '' "$a_mode" || return 1
lib_number "$a_uid" uid || return 1
ar_state() { if [ -e "$a_dest" ] || [ -L "$a_dest" ]; then v_fs=$(stat -c '%s %Y' "$a_dest"); _out size "${v_fs% *}"; else v_fs=absent; _out size 0; fi; _state 0 "$v_fs"; }
ar_state
if [ "$M" = probe ] || [ "$v_fs" != absent ]; then return 0; fi
if [ ! -e "$a_src" ] || [ -L "$a_src" ]; then _say "there is no $a_src"; return 0; fi
if [ "${a_uid:-0}" -gt 0 ]; then
  lib_owner "$a_src"
  if [ "$v_owner" != "$a_uid" ]; then _say "$a_src belongs to uid $v_owner: it was left alone"; return 0; fi
fi
if [ "$M" = check ]; then _changed; _say "would write $a_dest"; return 0; fi
v_dir=${a_dest%/*}
if [ ! -d "$v_dir" ]; then mkdir -p -m 0700 -- "$v_dir" || return 1; fi
lib_safe "$a_dest" || return 1
v_base=${a_src##*/} v_up=${a_src%/*}
if [ "$a_move" = true ]; then
  if [ -z "$v_up" ]; then lib_no "$a_src is not moved"; return 1; fi
  lib_mounts "$a_src" || return 1
  mv -- "$a_src" "$a_dest" && chown -hR 0:0 "$a_dest" && chmod 0700 "$a_dest" || return 1
  ar_state
  _changed
  _say "moved $a_src to $a_dest"
  return 0
fi
v_tmp=$v_dir/.${a_dest##*/}.runner-tmp
rm -f "$v_tmp"
v_one=--one-file-system
case $(tar --help 2>&1) in *one-file-system*) ;; *) v_one= ;; esac
v_err=$(tar -C "${v_up:-/}" $v_one -czf "$v_tmp" -- "$v_base" 2>&1)
v_rc=$?
# 1: a file changed while it was read.
if [ $v_rc -gt 1 ] || [ ! -s "$v_tmp" ]; then rm -f "$v_tmp"; lib_no "tar (exit $v_rc): $v_err"; return 1; fi
chmod "${a_mode:-0600}" "$v_tmp" && mv -f -- "$v_tmp" "$a_dest" || { rm -f "$v_tmp"; return 1; }
ar_state
_changed
_say "archived $a_src as $a_dest"
