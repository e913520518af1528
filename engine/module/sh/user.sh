# The account of the databases, made, changed or taken away.
# user_show: v_show = the account as it is, for people.
user_show() {
  v_show=
  if [ -z "$v_pwline" ]; then return 0; fi
  v_until=never
  if [ -n "$v_spexp" ]; then lib_date "$v_spexp"; v_until=$v_date; fi
  case $v_pwhash in '!'*) v_lock=true ;; *) v_lock=false ;; esac
  user_lines_of "$v_uid" "$v_gecos" "$v_home" "$v_shell"
}
# user_lines_of UID COMMENT HOME SHELL: v_show of these, v_until and v_lock.
user_lines_of() { v_show="uid: $1${lib_nl}comment: $2${lib_nl}home: $3${lib_nl}shell: $4${lib_nl}expires: $v_until${lib_nl}locked: $v_lock"; }
# user_would UID COMMENT HOME SHELL: what the account would be is what is asked
# for, and else as it is.
user_would() {
  if [ -z "$_diff" ]; then return 0; fi
  user_show
  case $a_expires in '') if [ -z "$v_pwline" ]; then v_until=never; fi ;; never) v_until=never ;; *) lib_date "$v_day"; v_until=$v_date ;; esac
  case $a_locked in '') if [ -z "$v_pwline" ]; then v_lock=false; fi ;; *) v_lock=$a_locked ;; esac
  user_lines_of "$@"
  v_would=$v_show
}
user_state() { if [ -n "$v_pwline" ]; then _state 0 "uid=$v_uid"; else _state 0 absent; fi; }
user_outputs() {
  v_locked=false
  case $v_pwhash in '!'*) v_locked=true ;; esac
  user_state
  if [ -n "$_diff" ]; then user_show; lib_diff 0 "$v_asis" "${v_would-$v_show}"; fi
  v_f=true
  if [ -z "$v_pwline" ]; then v_f=false; fi
  _out exists $v_f uid "${v_uid:-${a_uid:-0}}" gid "${v_gid:-0}" home "$v_home" locked $v_locked \
    created "${v_created:-false}" conflict "${v_conflict:-false}"
}

# user_no TEXT: fails with the outputs as they are.
user_no() { user_outputs; lib_no "$1"; }

user_shell() {
  case $1 in
  '') v_sh=/bin/bash; [ -x $v_sh ] || v_sh=/bin/sh ;;
  nologin) for v_sh in /usr/sbin/nologin /sbin/nologin /bin/false; do if [ -x $v_sh ]; then break; fi; done ;;
  *)
    v_sh=$1
    case $v_sh in *:*) lib_no "a shell cannot contain a colon: '$v_sh'"; return 1 ;; esac
    lib_path "$v_sh" shell || return 1
    [ -x "$v_sh" ] || lib_no "there is no shell $v_sh on this device"
    ;;
  esac
}

user_create() {
  if [ -n "$v_byuid" ]; then v_conflict=true; user_no "uid $v_want belongs to $v_byuid already"; return 1; fi
  if [ -n "$v_grline" ]; then user_no "a group $a_name exists already: it is not adopted as the account's own group"; return 1; fi
  # useradd looks into all sources itself.
  v_line=
  if [ "$M" = check ] || ! command -v useradd >/dev/null 2>&1; then lib_nss "$a_name"; fi
  if [ -n "$v_line" ]; then user_no "an account $a_name exists already in another source than /etc/passwd"; return 1; fi
  user_shell "$a_shell" || return 1
  v_home=$a_home
  if [ -z "$v_home" ]; then
    v_home=/home
    if [ -r /etc/default/useradd ]; then
      while IFS='=' read -r v_k v_v; do if [ "$v_k" = HOME ] && [ -n "$v_v" ]; then v_home=$v_v; fi; done </etc/default/useradd
    fi
    v_home=${v_home%/}/$a_name
  fi
  if [ "$a_create_home" != false ] && { [ -e "$v_home" ] || [ -L "$v_home" ]; }; then
    user_no "$v_home exists already: it is not adopted as a home"
    return 1
  fi
  if [ "$M" = check ]; then
    _changed
    v_u='the next free one'
    if [ "$v_want" -gt 0 ]; then v_u=$v_want; fi
    user_would "$v_u" "$a_comment" "$v_home" "$v_sh"
    _say "would create account $a_name with uid $v_u"
    user_outputs
    return 0
  fi
  v_star='*'
  if [ "$a_locked" = true ]; then v_star='!*'; fi
  if command -v useradd >/dev/null 2>&1; then user_useradd; else user_adduser; fi || return 1
  lib_scan "$a_name" "$v_want"
  if [ -z "$v_pwline" ]; then user_no "account $a_name is not there after its creation"; return 1; fi
  v_created=true
  _changed
  if [ "$v_want" -gt 0 ] && [ "$v_uid" != "$v_want" ]; then user_no "account $a_name was created with uid $v_uid instead of $v_want"; return 1; fi
  if [ "$v_spexp" != "$v_day" ]; then user_no "the expiry of $a_name was not stored"; return 1; fi
  # It was not there before, so root's it was, and then the account's.
  if [ "$a_create_home" != false ] && { [ ! -d "$v_home" ] || [ -O "$v_home" ]; }; then user_no "home $v_home was not made, or not given to $a_name"; return 1; fi
  _say "created account $a_name, uid $v_uid"
  user_outputs
}

user_useradd() {
  v_date= v_mk=-m v_sys= v_u=
  if [ -n "$v_day" ]; then lib_date "$v_day"; fi
  if [ "$a_create_home" = false ]; then v_mk=-M; fi
  if [ "$a_system" = true ]; then v_sys=-r; fi
  v_gmax=
  if [ "$v_want" -gt 0 ]; then
    v_u=$v_want
    # Above GID_MAX useradd would not give the group the same number.
    if [ "$v_want" -gt 60000 ] && [ "$v_want" -lt 4000000 ]; then v_gmax=GID_MAX=$v_want; fi
  fi
  lib_retry useradd -U $v_mk $v_sys -K UMASK=077 ${v_gmax:+-K "$v_gmax"} -p "$v_star" -c "$a_comment" -d "$v_home" -s "$v_sh" ${v_u:+-u "$v_u"} ${v_date:+-e "$v_date"} -- "$a_name"
  case $v_rc in
  0) ;;
  9) lib_no "an account or group $a_name exists already in another source than /etc/passwd: $v_err"; return 1 ;;
  *) lib_no "useradd (exit $v_rc): $v_err"; return 1 ;;
  esac
}

user_adduser() {
  if ! command -v adduser >/dev/null 2>&1; then lib_no "neither useradd nor adduser is on this device"; return 1; fi
  if [ -n "$v_day" ]; then lib_no "this device has no useradd: busybox accounts cannot expire; leave expires away to accept that"; return 1; fi
  v_mk= v_sys= v_u=
  if [ "$a_create_home" = false ]; then v_mk=-H; fi
  if [ "$a_system" = true ]; then v_sys=-S; fi
  if [ "$v_want" -gt 60000 ]; then user_lines; return; fi
  if [ "$v_want" -gt 0 ]; then v_u=$v_want; fi
  lib_retry adduser -D $v_mk $v_sys -g "$a_comment" -h "$v_home" -s "$v_sh" ${v_u:+-u "$v_u"} "$a_name"
  if [ $v_rc -ne 0 ]; then lib_no "adduser (exit $v_rc): $v_err"; return 1; fi
  lib_lock || return 1
  lib_edit /etc/shadow '$1==n {$2=value} {print}' "$v_star"
  v_rc=$?
  lib_unlock
  if [ "$a_create_home" != false ]; then chmod 0700 "$v_home"; fi
  return $v_rc
}

# user_lines makes an account as adduser does, for a uid beyond its range.
user_lines() {
  case $a_comment$v_sh in *'\'*) lib_no "a comment cannot contain a backslash on this device"; return 1 ;; esac
  if grep -qs "^[^:]*:[^:]*:$v_want:" /etc/group; then lib_no "gid $v_want is taken already"; return 1; fi
  v_bad=0
  v_add='{print} END{print value}'
  lib_lock || return 1
  lib_edit /etc/passwd "$v_add" "$a_name:x:$v_want:$v_want:$a_comment:$v_home:$v_sh" &&
    lib_edit /etc/shadow "$v_add" "$a_name:$v_star:$(($(date +%s) / 86400)):0:99999:7:::" &&
    lib_edit /etc/group "$v_add" "$a_name:x:$v_want:" || v_bad=1
  lib_unlock
  if [ $v_bad -eq 0 ] && [ "$a_create_home" != false ]; then
    if [ -d /etc/skel ]; then cp -R /etc/skel "$v_home"; else mkdir "$v_home"; fi
    chown -R "$v_want:$v_want" "$v_home" && chmod 0700 "$v_home" || v_bad=1
  fi
  return $v_bad
}

user_update() {
  if [ -n "$a_home" ] && [ "$a_home" != "$v_home" ]; then user_no "the home of an existing account is not moved: it is $v_home"; return 1; fi
  v_c= v_s= v_e= v_never= v_l= v_what= v_sh=
  if [ -n "$a_comment" ] && [ "$a_comment" != "$v_gecos" ]; then v_c=1 v_what="$v_what comment"; fi
  if [ -n "$a_shell" ]; then
    user_shell "$a_shell" || return 1
    if [ "$v_sh" != "$v_shell" ]; then v_s=1 v_what="$v_what shell"; fi
  fi
  # Accounts of busybox cannot expire; what is to be locked is locked all the same.
  if [ "$a_expires:$a_locked" = past:true ] && ! command -v usermod >/dev/null 2>&1; then
    :
  elif [ -n "$a_expires" ] && [ "$v_spexp" != "$v_day" ]; then
    v_what="$v_what expiry"
    if [ -n "$v_day" ]; then lib_date "$v_day"; v_e=$v_date; else v_never=1; fi
  fi
  case $a_locked:$v_pwhash in
  true:'!'*) ;;
  true:*) v_l=-L v_what="$v_what lock" ;;
  false:'!'*) v_l=-U v_what="$v_what unlock" ;;
  esac
  if [ -z "$v_what" ]; then user_outputs; return 0; fi
  _say "$a_name:$v_what"
  if [ "$M" = check ]; then
    user_would "$v_uid" "${a_comment:-$v_gecos}" "$v_home" "${v_sh:-$v_shell}"
    _changed
    user_outputs
    return 0
  fi
  if command -v usermod >/dev/null 2>&1; then
    lib_retry usermod $v_l ${v_c:+-c "$a_comment"} ${v_s:+-s "$v_sh"} ${v_e:+-e "$v_e"} ${v_never:+-e ""} -- "$a_name"
    if [ $v_rc -ne 0 ]; then user_no "usermod (exit $v_rc): $v_err"; return 1; fi
  else
    user_busymod || { user_outputs; return 1; }
  fi
  lib_scan "$a_name" "$v_want"
  if [ -n "$v_e$v_never" ] && [ "$v_spexp" != "$v_day" ]; then user_no "the expiry of $a_name was not stored"; return 1; fi
  case $v_l:$v_pwhash in
  -L:'!'* | :*) ;;
  -L:*) user_no "account $a_name is not locked after usermod"; return 1 ;;
  -U:'!'*) user_no "account $a_name is still locked after usermod"; return 1 ;;
  esac
  _changed
  user_outputs
}

# user_busymod changes an account where only busybox is there.
user_busymod() {
  if [ -n "$v_e$v_never" ]; then lib_no "this device has no usermod: busybox accounts cannot expire"; return 1; fi
  lib_lock || return 1
  v_bad=0
  if [ -n "$v_s" ]; then lib_edit /etc/passwd '$1==n {$7=value} {print}' "$v_sh" || v_bad=1; fi
  if [ -n "$v_c" ]; then lib_edit /etc/passwd '$1==n {$5=value} {print}' "$a_comment" || v_bad=1; fi
  case $v_l in
  -L) lib_edit /etc/shadow '$1==n {$2="!" $2} {print}' || v_bad=1 ;;
  -U) lib_edit /etc/shadow '$1==n {sub(/^!+/,"",$2); if($2=="")$2="*"} {print}' || v_bad=1 ;;
  esac
  lib_unlock
  return $v_bad
}

user_remove() {
  v_removed= v_gone= v_kept= v_conflict=false
  if [ -n "$v_pwline" ]; then
    if [ "$v_want" -gt 0 ] && [ "$v_uid" != "$v_want" ]; then
      v_conflict=true
      user_no "account $a_name has uid $v_uid, not $v_want: it is another account and stays"
      return 1
    fi
    if [ "$v_uid" -eq 0 ]; then user_no "account $a_name has uid 0: it stays"; return 1; fi
    if [ "$v_uid" -lt 1000 ] && [ "$a_system" != true ]; then user_no "account $a_name has the system uid $v_uid: it stays"; return 1; fi
  elif [ -n "$v_byuid" ]; then
    v_conflict=true
    user_no "there is no account $a_name, but uid $v_want belongs to $v_byuid"
    return 1
  else
    lib_nss "$a_name"
    if [ -n "$v_line" ]; then user_no "account $a_name is not in /etc/passwd: it is removed where it is kept"; return 1; fi
    # Without a uid or a trace in shadow nothing says that a group or a
    # membership of that name was ours.
    if [ "$v_want" -eq 0 ] && [ -z "$v_spline" ]; then user_outputs; return 0; fi
  fi
  v_id=${v_uid:-$v_want} v_ranges=$v_subuid
  lib_ownership "$v_id"
  v_dir=${v_home:-${a_home:-/home/$a_name}}
  v_left=$v_pwline
  if [ -z "$v_left" ] && [ "$a_remove_home" != false ] && [ -d "$v_dir" ] && [ ! -L "$v_dir" ] && [ "$v_id" -gt 0 ]; then
    lib_owner "$v_dir"
    case $v_owner in "$v_id" | 0) v_left=1 ;; esac
    if [ "$v_owner" = 0 ] && { [ "${v_dir##*/}" != "$a_name" ] || [ "$v_dir" = "/$a_name" ]; }; then v_left=; fi
  fi
  for v_f in "/var/mail/$a_name" "/var/spool/mail/$a_name"; do if [ -f "$v_f" ]; then v_left=1; fi; done
  if [ -z "$v_left$v_spline$v_grown$v_gsown$v_subuid$v_subgid" ] && [ "$v_member$v_gsmember" = '  ' ]; then
    if [ -n "$v_keptg" ]; then _say "kept: $v_keptg"; fi
    user_outputs
    return 0
  fi
  if [ "$M" = check ]; then v_would=; _changed; _say "would delete account $a_name"; user_outputs; return 0; fi
  user_delete || return 1
  _changed
  _say "deleted account $a_name${v_kept:+; kept: $v_kept}${v_keptg:+; kept: $v_keptg}"
  v_home=$v_dir
  user_outputs
}

user_delete() {
  v_unmounted=
  if [ "$v_id" -ge 1000 ] || { [ "$a_system" = true ] && [ "$v_id" -gt 0 ]; }; then
    if lib_mine "$v_id"; then user_no "account $a_name is the one this session runs as"; return 1; fi
    case $v_dir in *[!A-Za-z0-9_./@+-]*) v_f= ;; *) v_f=$v_dir ;; esac
    lib_kill "$v_id" 0 "$v_ranges" "$v_f" || { user_no "processes of $a_name do not end:$v_procs"; return 1; }
  fi
  if [ "$a_remove_home" != false ]; then lib_rmhome "$v_dir" "$v_id" || { user_outputs; return 1; }; fi
  lib_rmmail "$a_name" "$v_id"
  if [ -n "$v_pwline" ]; then user_userdel || { user_outputs; return 1; }; fi
  lib_scan "$a_name" "$v_want"
  if [ -n "$v_pwline" ]; then user_no "account $a_name is still there after its deletion"; return 1; fi
  lib_ownership "$v_id"
  if [ -z "$v_spline$v_grown$v_gsown$v_subuid$v_subgid" ] && [ "$v_member$v_gsmember" = '  ' ]; then return 0; fi
  lib_heal || { user_outputs; return 1; }
  lib_scan "$a_name" "$v_want"
  lib_ownership "$v_id"
  if [ -z "$v_spline$v_grown$v_gsown$v_subuid$v_subgid" ] && [ "$v_member$v_gsmember" = '  ' ]; then return 0; fi
  user_no "lines of $a_name are left in the account databases"
}

user_userdel() {
  if ! command -v userdel >/dev/null 2>&1; then
    lib_lock || return 1
    lib_edit /etc/passwd '$1!=n'
    v_rc=$?
    lib_unlock
    return $v_rc
  fi
  v_round2=0
  while :; do
    lib_retry userdel -- "$a_name"
    case $v_rc in 0 | 6) return 0 ;; esac
    v_round2=$((v_round2 + 1))
    if [ $v_rc -ne 8 ] || [ $v_round2 -gt 5 ]; then lib_no "userdel (exit $v_rc): $v_err"; return 1; fi
    lib_kill "$v_id" 0 "$v_ranges" || { lib_no "processes of $a_name do not end:$v_procs"; return 1; }
    # Nothing of it runs, so "in use" is a stale login record.
    if [ $v_round2 -ge 3 ]; then
      lib_retry userdel -f -- "$a_name"
      case $v_rc in 0 | 6) return 0 ;; esac
    fi
    lib_nap
  done
}

v_created= v_conflict= v_gone=
lib_name "$a_name" || return 1
lib_number "$a_uid" uid || return 1
v_want=${a_uid:-0}
case $a_comment in *:* | *"$lib_nl"*) lib_no "a comment cannot contain a colon or a line break: '$a_comment'"; return 1 ;; esac
if [ -n "$a_home" ]; then
  case $a_home in *[!A-Za-z0-9_./@+-]*) lib_no "a home cannot be '$a_home'"; return 1 ;; esac
  lib_path "$a_home" home || return 1
fi
lib_day "$a_expires" || return 1
# What is taken away is looked at afresh.
if [ "$a_state" = absent ]; then lib_stale; fi
lib_scan "$a_name" "$v_want"
unset v_would
if [ -n "$_diff" ]; then user_show; v_asis=$v_show; fi
if [ "$M" = probe ]; then user_outputs; return 0; fi
if [ "$M" = apply ]; then user_state; fi
if [ "$a_state" = absent ]; then user_remove; return; fi
if [ -z "$v_pwline" ]; then
  if [ "$a_exists" = require ]; then user_no "there is no account $a_name"; return 1; fi
  user_create
  return
fi
if [ "$v_want" -gt 0 ] && [ "$v_uid" != "$v_want" ]; then
  v_conflict=true
  user_no "account $a_name exists with uid $v_uid, not $v_want"
  return 1
fi
case $a_exists in
adopt) user_outputs ;;
update | require) user_update ;;
*) user_no "account $a_name exists already, with uid $v_uid" ;;
esac
