# Exactly one line of ~/.ssh/authorized_keys, marked by its comment. What is
# read and written in the home is read and written as the account itself, so
# that no link in it leads anywhere that the account could not go.
ak_script='umask 077
IFS= read -r op; IFS= read -r blob; IFS= read -r mark; IFS= read -r line
cd "$HOME" || { echo "E home"; exit 1; }
f=.ssh/authorized_keys
if [ -L .ssh ] || [ -L $f ]; then echo "E .ssh or authorized_keys is a symbolic link"; exit 1; fi
if [ -e $f ] && [ ! -f $f ]; then echo "E authorized_keys is not a file"; exit 1; fi
mine= same= other= n=0
if [ -f $f ]; then
  if [ ! -r $f ]; then echo "E authorized_keys is not readable by its owner"; exit 1; fi
  while IFS= read -r l || [ -n "$l" ]; do
    case " $l " in *" $blob "*) ;; *) continue ;; esac
    case $l in
    *" $blob $mark" | "$blob $mark") mine=$l; n=$((n+1)); if [ "$l" = "$line" ]; then same=1; fi ;;
    *) other=1 ;;
    esac
  done <$f
fi
if [ -n "$other" ]; then echo O; fi
if [ -n "$mine" ]; then echo "M $mine"; fi
case $op in
read) exit 0 ;;
present) if [ -n "$same" ] && [ $n -eq 1 ]; then exit 0; fi ;;
absent) if [ -z "$mine" ]; then exit 0; fi ;;
esac
if [ ! -d .ssh ]; then mkdir -m 700 .ssh || { echo "E cannot make .ssh"; exit 1; }; fi
set -C
if [ ! -f $f ]; then
  printf "%s\n" "$line" >$f || { echo "E cannot write into .ssh"; exit 1; }
else
  t=.ssh/.runner-$$
  if [ -e $t ] || [ -L $t ]; then rm -f $t; fi
  {
    while IFS= read -r l || [ -n "$l" ]; do
      case $l in *" $blob $mark" | "$blob $mark") ;; *) printf "%s\n" "$l" ;; esac
    done <$f
    if [ $op = present ]; then printf "%s\n" "$line"; fi
  } >$t || { rm -f $t; echo "E cannot write into .ssh"; exit 1; }
  chmod --reference=$f $t 2>/dev/null
  mv -f $t $f || { rm -f $t; echo "E cannot replace authorized_keys"; exit 1; }
fi
echo C
while IFS= read -r l || [ -n "$l" ]; do
  case $l in *" $blob $mark" | "$blob $mark") echo "N $l" ;; esac
done <$f'
# ak_run OP: v_mine (our line as it was), v_now (as it is after a change),
# v_other, v_wrote, v_why.
ak_run() {
  v_mine= v_now= v_other= v_wrote= v_why=
  if [ ! -d "$v_home" ]; then v_why="there is no home $v_home"; return 1; fi
  if [ "$1" != present ] && [ ! -e "$v_home/.ssh/authorized_keys" ] && [ ! -L "$v_home/.ssh" ]; then return 0; fi
  lib_how
  v_said=$(
    HOME=$v_home
    export HOME
    lib_as "$a_user" "$v_uid" "$v_gid" "$ak_script" 2>&1 <<EOF
$1
$v_blob
$a_comment
$v_line
EOF
  )
  v_rc=$?
  while IFS= read -r v_l; do
    case $v_l in
    'M '*) v_mine=${v_l#M } ;;
    'N '*) v_now=${v_l#N } ;;
    O) v_other=1 ;;
    C) v_wrote=1 ;;
    'E '*) v_why=${v_l#E } ;;
    esac
  done <<EOF
$v_said
EOF
  return $v_rc
}
ak_state() {
  if [ -n "$1" ]; then _state 0 "present ${1%%"$v_blob"*}"; else _state 0 absent; fi
}
# ak_time: v_opt = the expiry in the form that the device's sshd knows: UTC from
# OpenSSH 9.1, else the device's own time zone, from 7.7. The sshd that let us in
# has said its version; another one is asked.
ak_time() {
  v_opt= v_form=none
  case $a_expires in '' | never) return 0 ;; esac
  lib_epoch "$a_expires" || return 1
  case $_peer in
  SSH-2.0-OpenSSH_[0-9]*) v_v=$_peer ;;
  *) v_v=$(sshd -V 2>&1) ;;
  esac
  v_v=${v_v#*OpenSSH_} v_maj=${v_v%%.*} v_min=${v_v#*.}
  v_min=${v_min%%[!0-9]*}
  case $v_maj:$v_min in *[!0-9:]* | :* | *:) lib_no "the version of sshd is not known, so the key would not expire: $v_v"; return 1 ;; esac
  if [ "$v_maj" -gt 9 ] || { [ "$v_maj" -eq 9 ] && [ "$v_min" -ge 1 ]; }; then
    lib_stamp "$v_epoch"
    v_form=utc v_opt="expiry-time=\"${v_stamp}Z\""
  elif [ "$v_maj" -gt 7 ] || { [ "$v_maj" -eq 7 ] && [ "$v_min" -ge 7 ]; }; then
    v_form=local v_opt=$(unset TZ; date -d "@$v_epoch" +%Y%m%d%H%M%S)
    case $v_opt in ?????????????? | '') ;; *) v_opt= ;; esac
    if [ -z "$v_opt" ]; then lib_no "date cannot say the expiry in the time zone of this device"; return 1; fi
    v_opt="expiry-time=\"$v_opt\""
  else
    _say "sshd $v_maj.$v_min does not know expiry-time: the key does not expire by itself"
  fi
}
lib_known "$a_user" || return 1
case $a_key$a_options$a_comment in *"$lib_nl"*) lib_no "key, options and comment are one line each"; return 1 ;; esac
case $a_comment in '' | ' '* | *' ') lib_no "a comment is needed: it marks the line as ours"; return 1 ;; esac
v_type=${a_key%% *} v_rest=${a_key#* }
v_b64=${v_rest%% *}
case $v_type in ssh-* | ecdsa-* | sk-*) ;; *) lib_no "not a public key: it begins with '$v_type'"; return 1 ;; esac
case $v_type in *[!a-z0-9@.-]*) lib_no "not a public key type: '$v_type'"; return 1 ;; esac
case $v_b64 in '' | *[!A-Za-z0-9+/=]*) lib_no "not a public key: its second word is not base64"; return 1 ;; esac
v_blob="$v_type $v_b64"
# Only a scan without uid tells where sshd looks for keys.
case $lib_for in "$_turn $a_user 0") ;; *) lib_stale ;; esac
lib_scan "$a_user" 0
if [ -z "$v_pwline" ]; then lib_nss "$a_user"; lib_split "$v_line"; v_pwline=$v_line; fi
if [ -z "$v_pwline" ]; then
  _state 0 absent
  if [ "$M" = probe ] || [ "$a_state" = absent ]; then return 0; fi
  lib_no "there is no account $a_user"
  return 1
fi
if [ "$v_uid" = 0 ] && [ "$a_allow_root" != true ]; then lib_no "a key for root needs allow_root: true"; return 1; fi
v_line=
if [ "$M" = probe ] || [ "$a_state" = absent ]; then
  if ! ak_run read; then
    if [ "$M" = probe ] || [ ! -d "$v_home" ]; then _state 0 absent; return 0; fi
    lib_no "$v_home/.ssh: $v_why"
    return 1
  fi
  ak_state "$v_mine"
  if [ "$M" = probe ] || [ -z "$v_mine" ]; then return 0; fi
  lib_diff 0 "$v_mine" ''
  if [ "$M" = check ]; then _changed; return 0; fi
  ak_run absent || { lib_no "$v_home/.ssh: ${v_why:-cannot act as $a_user}"; return 1; }
  _changed
  ak_state "$v_now"
  [ -z "$v_now" ] || lib_no "the key of $a_user is there after it was taken away"
  return
fi
ak_time || return 1
_out expiry_form $v_form
v_line="$v_opt${a_options:+${v_opt:+,}$a_options}"
v_line="$v_line${v_line:+ }$v_blob $a_comment"
v_want=$v_line
# A line that sshd never reads would be a key that never works.
case $v_keysfile in '' | *.ssh/authorized_keys*) ;; *) lib_no "sshd of this device does not read ~/.ssh/authorized_keys: $v_keysfile"; return 1 ;; esac
if [ "$M" = check ]; then
  ak_run read || { lib_no "$v_home/.ssh: $v_why"; return 1; }
  lib_diff 0 "$v_mine" "$v_want"
  if [ "$v_mine" != "$v_want" ]; then _changed; _say "would add a key for $a_user"; fi
  ak_state "$v_mine"
  return 0
fi
# Whoever fails half way has said what was before.
if [ -e "$v_home/.ssh/authorized_keys" ] || [ -L "$v_home/.ssh/authorized_keys" ] || [ -L "$v_home/.ssh" ]; then
  ak_run read || { lib_no "$v_home/.ssh: ${v_why:-cannot act as $a_user}"; return 1; }
fi
ak_state "$v_mine"
lib_diff 0 "$v_mine" "$v_want"
if ! ak_run present; then lib_no "$v_home/.ssh: ${v_why:-cannot act as $a_user}"; return 1; fi
if [ -n "$v_other" ]; then _say "the same key is there on another line, which may allow more and longer"; fi
if [ -n "$v_wrote" ]; then
  _changed
  if [ -e /sys/fs/selinux/enforce ] && command -v restorecon >/dev/null 2>&1; then restorecon -R "$v_home/.ssh"; fi
  v_mine=$v_now
fi
ak_state "$v_mine"
[ "$v_mine" = "$v_want" ] || lib_no "the key of $a_user is not there after it was written"
