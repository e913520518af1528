# Everything on the device that bears the name or the uid of an account.
sf_add() { v_items="$v_items$1$lib_tab$2$lib_nl"; }
lib_known "$a_name" || return 1
lib_number "$a_uid" uid || return 1
v_want=${a_uid:-0} v_items= v_free=true
v_clock=$(date +%s)
v_id=
{ read -r v_id </etc/machine-id; } 2>/dev/null
_out clock "$v_clock" machine "$v_id"
# A receipt rests on what is there now.
lib_stale
lib_scan "$a_name" "$v_want"
if [ -n "$v_pwline" ]; then sf_add passwd "$a_name:uid=$v_uid"; if [ "$v_uid" = "$v_want" ]; then v_free=false; fi; fi
for v_n in $v_byuid; do sf_add passwd "$v_n:uid=$v_want"; v_free=false; done
if [ -n "$v_spline" ]; then sf_add shadow "$a_name"; fi
if [ -n "$v_grline" ]; then v_r=${v_grline#*:*:}; sf_add group "$a_name:gid=${v_r%%:*}"; fi
if [ -n "$v_gsline" ]; then sf_add gshadow "$a_name"; fi
for v_n in $v_member; do sf_add group-member "$v_n"; done
for v_n in $v_gsmember; do case $v_member in *" $v_n "*) ;; *) sf_add gshadow-member "$v_n" ;; esac; done
for v_n in $v_subuid; do sf_add subuid "$v_n"; done
for v_n in $v_subgid; do sf_add subgid "$v_n"; done
v_dir=${v_home:-${a_home:-/home/$a_name}}
if [ -e "$v_dir" ] || [ -L "$v_dir" ]; then
  if [ "$v_dir" != / ]; then sf_add home "$v_dir"; fi
  if [ -e "$v_dir/.ssh/authorized_keys" ]; then sf_add authorized_keys "$v_dir/.ssh/authorized_keys"; fi
fi
lib_re "$a_name"
v_by=
if [ "$v_want" -gt 0 ]; then v_by="|#$v_want([^0-9]|\$)"; fi
for v_f in $(grep -slE "(^|[^A-Za-z0-9_.@-])$v_re([^A-Za-z0-9_.@-]|\$)$v_by" /etc/sudoers /etc/sudoers.d/*); do sf_add sudoers "$v_f"; done
v_u=-
if [ "$v_want" -gt 0 ]; then v_u=$v_want; fi
lib_places "$a_name" "$v_u"
v_items=$v_items$v_places
if [ "$v_want" -gt 0 ]; then
  lib_procs "$v_want"
  for v_p in $v_procs; do
    v_free=false v_comm=
    { read -r v_comm <"/proc/$v_p/comm"; } 2>/dev/null
    sf_add process "$v_p $v_comm"
  done
  lib_ipc "$v_want"
  while read -r v_k v_i; do if [ -n "$v_i" ]; then sf_add ipc "$v_k $v_i"; v_free=false; fi; done <<EOF
$v_ipc
EOF
  lib_find "$v_want" "$a_paths" 1000
  while IFS= read -r v_f; do
    case $v_f in
    '') continue ;;
    /var/spool/at/* | /var/spool/cron/atjobs/*) sf_add at "$v_f" ;;
    *) sf_add file "$v_f" ;;
    esac
    v_free=false
  done <<EOF
$v_found
EOF
fi
v_items=$(printf '%s' "$v_items" | sort -u)
_out items "$v_items"
_out uid_free $v_free
