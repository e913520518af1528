# lib_lock: takes the lock files of shadow-utils, in their order. A lock whose
# process is dead is broken, as shadow-utils does it.
lib_lock() {
  lib_stale
  v_locks=
  for v_f in passwd shadow group gshadow subuid subgid; do
    [ -e "/etc/$v_f" ] || continue
    v_try=0
    until lib_lock1 "/etc/$v_f"; do
      v_try=$((v_try + 1))
      if [ $v_try -ge 100 ]; then
        lib_unlock
        lib_no "cannot lock /etc/$v_f: process ${v_pid:-?} holds it"
        return 1
      fi
      if [ $v_try -gt 1 ]; then lib_nap; fi
    done
    v_locks="$v_locks /etc/$v_f.lock"
  done
}

lib_lock1() {
  printf '%s' "$$" >"$1.$$" || return 1
  if ln "$1.$$" "$1.lock" 2>/dev/null; then rm -f "$1.$$"; return 0; fi
  v_pid=
  { read -r v_pid <"$1.lock"; } 2>/dev/null
  case $v_pid in '' | *[!0-9]*) ;; *) kill -0 "$v_pid" 2>/dev/null || rm -f "$1.lock" ;; esac
  rm -f "$1.$$"
  return 1
}

lib_unlock() {
  lib_stale
  for v_f in $v_locks; do rm -f "$v_f"; done
  v_locks=
}

# lib_edit FILE PROGRAM: rewrites a database by an awk program that sees the
# account in n. The lock is held by the caller.
lib_edit() {
  v_tmp=$1.runner-tmp
  if ! cp -p "$1" "$v_tmp" || ! awk -F: -v OFS=: -v n="$a_name" -v value="$3" "$2" "$1" >"$v_tmp"; then
    rm -f "$v_tmp"
    lib_no "cannot rewrite $1"
    return 1
  fi
  case $1 in
  /etc/passwd | /etc/shadow | /etc/group)
    if [ ! -s "$v_tmp" ]; then rm -f "$v_tmp"; lib_no "refusing to empty $1"; return 1; fi
    ;;
  esac
  sync "$v_tmp" 2>/dev/null || sync
  if [ -e /sys/fs/selinux/enforce ] && command -v chcon >/dev/null 2>&1; then chcon --reference="$1" "$v_tmp"; fi
  mv -f "$v_tmp" "$1"
}

# lib_heal: takes away what killed runs of useradd and userdel left of a_name in
# the databases, by exact name. Needs a fresh lib_scan without v_pwline, and
# v_grown (1 when the group is ours).
lib_heal() {
  lib_lock || return 1
  v_healed=0
  if [ -n "$v_spline" ]; then lib_edit /etc/shadow '$1!=n' || v_healed=1; fi
  v_members='function cut(f, i,k,m,s,hit){k=split($f,m,",");s="";hit=0;for(i=1;i<=k;i++){if(m[i]==n){hit=1}else{s=s (s==""?"":",") m[i]}} if(hit)$f=s}'
  if [ "$v_member" != ' ' ] || [ -n "$v_grown" ]; then
    lib_edit /etc/group "$v_members"' value!="" && $1==n {next} {cut(4); print}' "$v_grown" || v_healed=1
  fi
  if [ "$v_gsmember" != ' ' ] || [ -n "$v_gsown" ]; then
    lib_edit /etc/gshadow "$v_members"' value!="" && $1==n {next} {cut(3); cut(4); print}' "$v_gsown" || v_healed=1
  fi
  if [ -n "$v_subuid" ]; then lib_edit /etc/subuid '$1!=n' || v_healed=1; fi
  if [ -n "$v_subgid" ]; then lib_edit /etc/subgid '$1!=n' || v_healed=1; fi
  lib_unlock
  return $v_healed
}

# lib_ownership UID: after lib_scan, v_grown and v_gsown are 1 when the group
# named like the account belongs to it: its gid is UID, or nobody else is in it.
# A group that is somebody's primary group stays: v_keptg says so.
lib_ownership() {
  v_grown= v_gsown= v_keptg=
  if [ -n "$v_grline" ]; then
    v_r=${v_grline#*:*:} v_ggid=${v_r%%:*} v_mem=${v_r#*:}
    if [ "$v_ggid" = "$1" ] || [ -z "$v_mem" ] || [ "$v_mem" = "$a_name" ]; then v_grown=1; fi
    if [ -n "$v_grown" ]; then
      v_other=$v_bygid
      if [ "$v_ggid" != "$v_asked" ]; then v_other=$(grep -sE "^[^:]*:[^:]*:[^:]*:$v_ggid:" /etc/passwd | grep -v "^$a_name:"); fi
      if [ -n "$v_other" ]; then v_grown=; fi
    fi
    if [ -z "$v_grown" ]; then v_keptg="group $a_name is used by others"; fi
  fi
  if [ -n "$v_gsline" ] && { [ -n "$v_grown" ] || [ -z "$v_grline" ]; }; then v_gsown=1; fi
}

# lib_owner PATH: v_owner = uid of PATH itself, not of what it points to.
lib_owner() { v_owner=$(stat -c %u "$1" 2>/dev/null); }

# lib_mounts DIRECTORY: 1 when something is mounted there or below.
lib_mounts() {
  v_mounts=$(grep -F " $1" /proc/self/mounts)
  while read -r v_dev v_at v_rest; do
    case $v_at in "$1" | "$1"/*) lib_no "$v_at is a mount point: nothing of $1 was touched"; return 1 ;; esac
  done <<EOF
$v_mounts
EOF
}

# lib_rmtree DIRECTORY: deletes it and what is in it, but nothing that is
# mounted there. 1 when something stays.
lib_rmtree() {
  lib_stale
  lib_mounts "$1" || return 1
  lib_rm "$1"
}
lib_rm() {
  if rm -rf -- "$1" 2>/dev/null && [ ! -e "$1" ]; then return 0; fi
  if command -v chattr >/dev/null 2>&1; then chattr -R -f -i -a "$1" >/dev/null 2>&1; fi
  chmod -R u+rwx "$1" 2>/dev/null
  rm -rf -- "$1"
  [ ! -e "$1" ] || lib_no "cannot delete $1"
}

# lib_rmhome HOME UID: deletes a home directory that belongs to the account:
# owned by UID, or by root and named like the account (useradd was killed before
# it gave the directory away), after lib_kill. v_kept says why another one stays.
lib_rmhome() {
  case $1 in *[!A-Za-z0-9_./@+-]* | */../* | */.. | */./*) v_kept="home $1: not a plain path"; return 0 ;; esac
  case $1 in /*/?*) ;; *) v_kept="home $1: not a home of its own"; return 0 ;; esac
  if [ -L "$1" ]; then v_kept="home $1 is a symbolic link"; return 0; fi
  if [ ! -d "$1" ]; then return 0; fi
  lib_owner "$1"
  if [ "$v_owner" != "$2" ] && { [ "$v_owner" != 0 ] || [ "${1##*/}" != "$a_name" ]; }; then
    v_kept="home $1 belongs to uid $v_owner"
    return 0
  fi
  if [ "$v_unmounted" = "$1" ]; then lib_stale; lib_rm "$1"; else lib_rmtree "$1"; fi && v_gone=1
}

# lib_rmmail NAME UID: deletes the mail spool of an account.
lib_rmmail() {
  for v_f in "/var/mail/$1" "/var/spool/mail/$1"; do
    if [ ! -f "$v_f" ] || [ -L "$v_f" ]; then continue; fi
    lib_owner "$v_f"
    case $v_owner in "$2" | 0) rm -f "$v_f" && v_gone=1 v_removed="${v_removed}mail$lib_tab$v_f$lib_nl" ;; esac
  done
}
