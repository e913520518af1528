# What an account leaves outside its home and the databases.
ul_add() { v_removed="$v_removed$1$lib_tab$2$lib_nl"; }
lib_name "$a_name" || return 1
lib_number "$a_uid" uid || return 1
v_want=${a_uid:-0}
if [ "$v_want" -lt 1000 ]; then lib_no "leftovers of the system uid $v_want stay"; return 1; fi
v_ok=1
while IFS= read -r v_f; do
  case $v_f in '') ;; / | /etc | /etc/* | /usr* | /bin* | /lib* | /sbin* | /boot* | /proc* | /sys*) lib_no "paths cannot contain $v_f"; v_ok= ;; *) lib_path "$v_f" paths || v_ok= ;; esac
done <<EOF
$a_paths
EOF
if [ -z "$v_ok" ]; then return 1; fi
lib_scan "$a_name" "$v_want"
if [ -n "$v_pwline" ] && [ "$v_uid" != "$v_want" ]; then lib_no "account $a_name has uid $v_uid, not $v_want: it is another account"; return 1; fi
if [ -n "$v_byuid" ]; then lib_no "uid $v_want belongs to $v_byuid"; return 1; fi
if [ "$M" = probe ]; then return 0; fi
v_removed= v_bad=
lib_places "$a_name" "$v_want"
lib_ipc "$v_want"
if [ "$M" != apply ]; then
  lib_find "$v_want" "$a_paths" 1000
  if [ -n "$v_places$v_ipc$v_found" ]; then _changed; _say "would remove: $v_places$v_ipc$v_found"; fi
  return 0
fi
while IFS=$lib_tab read -r v_k v_f; do
  if [ -z "$v_f" ]; then continue; fi
  case $v_k in
  mail)
    lib_owner "$v_f"
    case $v_owner in "$v_want" | 0) rm -f "$v_f" ;; *) _say "kept: $v_f belongs to uid $v_owner"; continue ;; esac
    ;;
  run-user)
    lib_owner "$v_f"
    if [ "$v_owner" != "$v_want" ] || [ -L "$v_f" ]; then _say "kept: $v_f is not of uid $v_want"; continue; fi
    if grep -qs " $v_f[/ ]" /proc/self/mounts; then
      grep -s " $v_f/" /proc/self/mounts | while read -r v_dev v_at v_rest; do umount -l "$v_at"; done
      umount -l "$v_f" 2>/dev/null
    fi
    rm -rf -- "$v_f"
    ;;
  *) rm -f -- "$v_f" 2>/dev/null || rm -rf -- "$v_f" ;;
  esac
  if [ -e "$v_f" ] || [ -L "$v_f" ]; then lib_no "cannot remove $v_f"; v_bad=1; else ul_add "$v_k" "$v_f"; fi
done <<EOF
$v_places
EOF
while read -r v_k v_i; do
  if [ -z "$v_i" ]; then continue; fi
  if ipcrm "-$v_k" "$v_i" 2>/dev/null; then ul_add ipc "$v_k $v_i"; else lib_no "cannot remove the ipc object $v_k $v_i"; v_bad=1; fi
done <<EOF
$v_ipc
EOF
lib_find "$v_want" "$a_paths" 1000
if [ -n "$v_found" ]; then
  # Only -delete is safe where others can rename folders. A busybox without it
  # shadows the find that may be there.
  (IFS=$lib_nl; set -f; find $v_dirs -xdev -depth -user "$v_want" -delete || /usr/bin/find $v_dirs -xdev -depth -user "$v_want" -delete) 2>/dev/null
  v_before=$v_found
  lib_find "$v_want" "$a_paths" 1000
  while IFS= read -r v_f; do
    if [ -z "$v_f" ]; then continue; fi
    case $lib_nl$v_found$lib_nl in *"$lib_nl$v_f$lib_nl"*) lib_no "cannot remove $v_f"; v_bad=1 ;; *) ul_add file "$v_f" ;; esac
  done <<EOF
$v_before
EOF
fi
if [ -z "$v_pwline" ]; then
  lib_ownership "$v_want"
  if [ -n "$v_spline$v_grown$v_gsown$v_subuid$v_subgid" ] || [ "$v_member$v_gsmember" != '  ' ]; then
    if lib_heal; then ul_add databases "lines of $a_name"; else v_bad=1; fi
  fi
fi
_out removed "${v_removed%"$lib_nl"}"
if [ -n "$v_removed" ]; then _changed; fi
[ -z "$v_bad" ]
