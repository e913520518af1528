# Shared functions of the Linux modules. See ../README.md for the rules.
lib_nl='
'
lib_tab='	'

# The first line of every file of sudoers.d that is ours.
lib_sumark='# managed by runner; do not edit'

# lib_no TEXT: says why a step fails.
lib_no() { printf '%s\n' "$1" >&2; return 1; }

# lib_diff I WAS IS: where that is asked for, tells people what object I was and
# is, or would be. Nobody may learn a secret from it.
lib_diff() { if [ -n "$_diff" ]; then _out "was.$1" "$2"; _out "is.$1" "$3"; fi; }

# lib_name NAME: 1 unless NAME may be created by us.
lib_name() {
  case $1 in '' | [!a-z_]* | *[!a-z0-9_-]*) lib_no "not an account name: '$1' (want ^[a-z_][a-z0-9_-]{0,31}\$)"; return 1 ;; esac
  [ ${#1} -le 32 ] || lib_no "not an account name: '$1' has more than 32 characters"
}

# lib_known NAME: 1 unless NAME can be an account or group that others made.
lib_known() {
  case $1 in '' | [!A-Za-z_]* | *[!A-Za-z0-9_.@-]*) lib_no "not an account or group name: '$1'"; return 1 ;; esac
  [ ${#1} -le 64 ] || lib_no "not an account or group name: '$1' is too long"
}

# lib_number TEXT WHAT: 1 unless TEXT is a decimal number or empty.
lib_number() { case $1 in *[!0-9]* | ???????????*) lib_no "$2 is not a number: '$1'" ;; esac; }

# lib_path PATH WHAT: 1 unless PATH is absolute, without .. and line breaks.
lib_path() {
  case $1 in
  *"$lib_nl"* | */../* | */.. | */./* | */.) ;;
  /*) return 0 ;;
  esac
  lib_no "$2 must be an absolute path without . and ..: '$1'"
}

# lib_re NAME: v_re = NAME as a regular expression.
lib_re() {
  v_re=$1
  case $1 in *.*) ;; *) return 0 ;; esac
  v_rest=$1. v_re=
  while [ -n "$v_rest" ]; do v_re="$v_re${v_re:+[.]}${v_rest%%.*}"; v_rest=${v_rest#*.}; done
}

# What lib_grep found, and the turn, name and uid that it is for.
lib_hits= lib_for=

# lib_stale: what was read of the databases counts no more. Called by all that
# changes them, that lets others do so, or that waits.
lib_stale() { lib_hits= lib_for=; }

# lib_grep NAME UID: reads all lines of the databases that may concern either,
# and without UID those that say where sshd looks for keys.
lib_grep() {
  lib_re "${1:-0}"
  v_pat="^$v_re:|[:,]$v_re(,|:|\$)" v_f=
  if [ "${2:-0}" -gt 0 ] 2>/dev/null; then
    v_pat="$v_pat|^[^:]*:[^:]*:([^:]*:)?$2:"
  else
    v_pat="$v_pat|^[[:space:]]*[Aa][Uu][Tt][Hh][Oo][Rr][Ii][Zz][Ee][Dd][Kk][Ee][Yy][Ss][Ff][Ii][Ll][Ee]"
    v_f='/etc/ssh/sshd_config /etc/ssh/sshd_config.d/*.conf'
  fi
  lib_hits=$(grep -sHE -- "$v_pat" /etc/passwd /etc/shadow /etc/group /etc/gshadow /etc/subuid /etc/subgid $v_f)
  lib_for=
  if [ -n "$_turn" ]; then lib_for="$_turn $1 ${2:-0}"; fi
}

# lib_scan NAME UID: everything the local databases say about NAME and UID; in
# one turn they are read once, until somebody calls lib_stale.
# Sets v_pwline v_spline v_grline v_gsline v_subuid v_subgid (lines of
# exactly NAME), v_member and v_gsmember (groups that list NAME, blank on both
# sides), v_byuid (other names with UID), v_bygid (other names whose group is
# UID), v_keysfile (lines of sshd's AuthorizedKeysFile; of a scan that was made
# without UID only), and splits v_pwline and v_spline.
lib_scan() {
  case $lib_for in
  "$_turn $1 ${2:-0}") ;;
  "$_turn $1 "*) if [ "${2:-0}" != 0 ]; then lib_grep "$1" "$2"; fi ;;
  *) lib_grep "$1" "$2" ;;
  esac
  v_pwline= v_spline= v_grline= v_gsline= v_subuid= v_subgid= v_member=' ' v_gsmember=' ' v_byuid= v_bygid=
  v_uid= v_gid= v_gecos= v_home= v_shell= v_pwhash= v_spexp= v_asked=${2:-0} v_keysfile=
  # Expansions, because read takes a text apart byte by byte.
  v_lines=$lib_hits$lib_nl
  while [ -n "$v_lines" ]; do
    v_l=${v_lines%%"$lib_nl"*} v_lines=${v_lines#*"$lib_nl"}
    v_f=${v_l%%:*} v_l=${v_l#*:}
    case $v_f:$v_l in
    /etc/passwd:"$1":*) v_pwline=$v_l ;;
    /etc/shadow:"$1":*) v_spline=$v_l ;;
    /etc/group:"$1":*) v_grline=$v_l ;;
    /etc/gshadow:"$1":*) v_gsline=$v_l ;;
    /etc/subuid:"$1":*) v_subuid="$v_subuid${v_l#*:} " ;;
    /etc/subgid:"$1":*) v_subgid="$v_subgid${v_l#*:} " ;;
    /etc/passwd:*)
      v_r=${v_l#*:*:}
      [ "${v_r%%:*}" != "$2" ] || v_byuid="$v_byuid${v_byuid:+ }${v_l%%:*}"
      v_r=${v_r#*:}
      [ "${v_r%%:*}" != "$2" ] || v_bygid="$v_bygid${v_bygid:+ }${v_l%%:*}"
      ;;
    esac
    case $v_f in
    /etc/ssh/*) case $v_l in *[Kk][Ee][Yy][Ss][Ff][Ii][Ll][Ee]*) v_keysfile="$v_keysfile$v_l$lib_nl" ;; esac ;;
    /etc/group) case ",${v_l##*:}," in *",$1,"*) v_member="$v_member${v_l%%:*} " ;; esac ;;
    /etc/gshadow)
      v_r=${v_l#*:*:}
      case ",${v_r%%:*},${v_r#*:}," in *",$1,"*) v_gsmember="$v_gsmember${v_l%%:*} " ;; esac
      ;;
    esac
  done
  lib_split "$v_pwline"
  if [ -n "$v_spline" ]; then
    v_r=${v_spline#*:} v_pwhash=${v_r%%:*} v_r=${v_r#*:*:*:*:*:*:} v_spexp=${v_r%%:*}
  fi
}

# lib_split LINE: v_uid v_gid v_gecos v_home v_shell of a line of passwd.
lib_split() {
  [ -n "$1" ] || return 0
  v_r=${1#*:*:} v_uid=${v_r%%:*} v_r=${v_r#*:} v_gid=${v_r%%:*} v_r=${v_r#*:} v_gecos=${v_r%%:*}
  v_r=${v_r#*:} v_home=${v_r%%:*} v_shell=${v_r#*:}
}

# lib_nss NAME: a line of passwd from other sources than /etc/passwd, in v_line.
lib_nss() {
  v_line=
  command -v getent >/dev/null 2>&1 || return 0
  v_line=$(getent passwd "$1" 2>/dev/null)
  case $v_line in "$1":*) ;; *) v_line= ;; esac
}

# lib_epoch TIME: v_epoch of an RFC 3339 time in UTC, a day or epoch seconds;
# fractions of a second round up.
lib_epoch() {
  case $1 in '' | *[!0-9]*) ;; *) v_epoch=$1; return 0 ;; esac
  v_t=$1
  case $v_t in
  [0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]) v_t=${v_t}T00:00:00Z ;;
  [0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9][T\ ][0-9][0-9]:[0-9][0-9]:[0-9][0-9]*) ;;
  *) lib_no "not a time: '$1' (want 2026-11-21T12:00:00Z)"; return 1 ;;
  esac
  v_z=${v_t#???????????????????} v_frac=0
  case $v_z in .[0-9]*)
    v_frac=1 v_z=${v_z#.}
    while :; do case $v_z in [0-9]*) v_z=${v_z#?} ;; *) break ;; esac; done
    ;;
  esac
  case $v_z in Z | +00:00 | ' +0000 UTC') ;; *) lib_no "not a time in UTC: '$1'"; return 1 ;; esac
  v_y=${v_t%%-*} v_r=${v_t#*-}
  v_mo=${v_r%%-*} v_r=${v_r#*-}
  v_d=${v_r%%[T ]*} v_r=${v_r#*[T ]}
  v_h=${v_r%%:*} v_r=${v_r#*:}
  v_mi=${v_r%%:*} v_s=${v_r#*:}
  v_s=${v_s%"${v_s#??}"}
  v_mo=${v_mo#0} v_d=${v_d#0} v_h=${v_h#0} v_mi=${v_mi#0} v_s=${v_s#0}
  v_y=${v_y#0} v_y=${v_y#0} v_y=${v_y#0}
  if [ "$v_mo" -le 2 ]; then v_y=$((v_y - 1)); fi
  v_era=$((v_y / 400)) v_yoe=$((v_y % 400))
  v_doy=$(((153 * ((v_mo + 9) % 12) + 2) / 5 + v_d - 1))
  v_days=$((v_era * 146097 + v_yoe * 365 + v_yoe / 4 - v_yoe / 100 + v_doy - 719468))
  v_epoch=$((v_days * 86400 + v_h * 3600 + v_mi * 60 + v_s + v_frac))
}

# lib_two NUMBER: v_two = NUMBER with at least two digits.
lib_two() { v_two=$1; if [ "$1" -lt 10 ]; then v_two=0$1; fi; }

# lib_date DAYS: v_date = YYYY-MM-DD of a number of days since 1970.
lib_date() {
  v_zz=$(($1 + 719468))
  v_era=$((v_zz / 146097)) v_doe=$((v_zz % 146097))
  v_yoe=$(((v_doe - v_doe / 1460 + v_doe / 36524 - v_doe / 146096) / 365))
  v_doy=$((v_doe - (365 * v_yoe + v_yoe / 4 - v_yoe / 100)))
  v_mp=$(((5 * v_doy + 2) / 153))
  v_d=$((v_doy - (153 * v_mp + 2) / 5 + 1)) v_mo=$((v_mp < 10 ? v_mp + 3 : v_mp - 9))
  v_y=$((v_yoe + v_era * 400))
  if [ "$v_mo" -le 2 ]; then v_y=$((v_y + 1)); fi
  lib_two "$v_mo"; v_date=$v_y-$v_two
  lib_two "$v_d"; v_date=$v_date-$v_two
}

# lib_stamp EPOCH: v_stamp = YYYYmmddHHMMSS in UTC.
lib_stamp() {
  lib_date $(($1 / 86400))
  v_stamp=${v_date%%-*}${v_date#*-}
  v_stamp=${v_stamp%%-*}${v_stamp#*-}
  v_sec=$(($1 % 86400))
  lib_two $((v_sec / 3600)); v_stamp=$v_stamp$v_two
  lib_two $((v_sec / 60 % 60)); v_stamp=$v_stamp$v_two
  lib_two $((v_sec % 60)); v_stamp=$v_stamp$v_two
}

# lib_day TIME: v_day = the first day (since 1970, UTC) that begins at or after
# TIME, so that an account expiry on it is never too early; empty for never.
lib_day() {
  case $1 in
  '' | never) v_day= ;;
  past) v_day=1 ;;
  *) lib_epoch "$1" || return 1; v_day=$(((v_epoch + 86399) / 86400)) ;;
  esac
}

# lib_nap: waits a tenth of a second, or a second where sleep knows no less.
lib_nap() { lib_stale; sleep 0.1 2>/dev/null || sleep 1; }

# lib_retry COMMAND...: runs it, in UTC so that days are those of UTC; while it
# says that a database is locked, up to 5 times more. Its output is in v_err, with
# who holds the lock, its status in v_rc and returned.
lib_retry() {
  lib_stale
  v_try=0
  while :; do
    v_err=$(TZ=UTC0; export TZ; exec "$@" 2>&1)
    v_rc=$?
    if [ "$v_rc" -eq 0 ]; then return 0; fi
    case $v_err in *"annot lock"* | *"existing lock file"* | *"try again later"*) ;; *) return "$v_rc" ;; esac
    if [ "$v_try" -ge 5 ]; then lib_holder; return "$v_rc"; fi
    v_try=$((v_try + 1))
    sleep 1
  done
}

# lib_holder: adds to v_err which processes hold the lock files of the databases.
lib_holder() {
  for v_f in passwd group gshadow shadow; do
    v_p= v_comm=
    { read -r v_p <"/etc/$v_f.lock"; } 2>/dev/null
    case $v_p in '' | *[!0-9]*) continue ;; esac
    { read -r v_comm <"/proc/$v_p/comm"; } 2>/dev/null && v_err="$v_err; process $v_p $v_comm holds /etc/$v_f.lock"
  done
}

# lib_procs UID [RANGES [DIRECTORY]]: v_procs = pids of the processes with UID as
# any of their uids, and of those inside RANGES (START:COUNT ..., as in subuid),
# but zombies. v_unmounted is DIRECTORY unless something is mounted there.
lib_procs() {
  v_procs= v_unmounted=$3
  v_lines=$(grep -sH -e "^Uid:.*[[:space:]]$1\([[:space:]]\|\$\)" ${3:+-e "^[^ ]* $3[/ ]"} /proc/[0-9]*/status ${3:+/proc/self/mounts})$lib_nl
  while [ -n "$v_lines" ]; do
    v_l=${v_lines%%"$lib_nl"*} v_lines=${v_lines#*"$lib_nl"}
    case $v_l in
    /proc/self/mounts:*) v_unmounted= ;;
    /proc/*/status:Uid:*)
      v_p=${v_l#/proc/} v_p=${v_p%%/*}
      lib_alive "$v_p" && v_procs="$v_procs $v_p"
      ;;
    esac
  done
  for v_range in $2; do
    v_lo=${v_range%%:*} v_n=${v_range#*:}
    for v_p in $(grep -s '^Uid:' /proc/[0-9]*/status | awk -v lo="$v_lo" -v n="$v_n" '$2>=lo && $2<lo+n || $3>=lo && $3<lo+n {split($1,p,"/"); print p[3]}'); do
      lib_alive "$v_p" && v_procs="$v_procs $v_p"
    done
  done
}

# lib_alive PID: 0 unless the process is gone or a zombie.
lib_alive() {
  v_st=
  { read -r v_st <"/proc/$1/stat"; } 2>/dev/null || return 1
  v_st=${v_st##*) }
  case $v_st in [ZX]*) return 1 ;; esac
}

# lib_mine UID: 0 when this very program belongs to a session of UID.
lib_mine() {
  v_p=$$
  while [ "${v_p:-0}" -gt 1 ] 2>/dev/null; do
    v_pp=
    { while read -r v_k v_a v_b v_c v_d; do
      case $v_k in
      PPid:) v_pp=$v_a ;;
      Uid:) case " $v_a $v_b $v_c $v_d " in *" $1 "*) return 0 ;; esac; break ;;
      esac
    done <"/proc/$v_p/status"; } 2>/dev/null
    v_p=$v_pp
  done
  return 1
}

# lib_noted: adds the processes of v_procs to v_killed, one "pid comm" a line.
lib_noted() {
  for v_p in $v_procs; do
    case $lib_nl$v_killed in *"$lib_nl$v_p "*) continue ;; esac
    v_comm=
    { read -r v_comm <"/proc/$v_p/comm"; } 2>/dev/null
    v_killed="$v_killed$v_p $v_comm$lib_nl"
  done
}

# lib_kill UID SECONDS [RANGES [DIRECTORY]]: ends every process of UID: TERM,
# SECONDS of grace, then KILL until none is left. v_killed lists them; 1 when some
# stay, which v_procs then names. When there was none, v_unmounted is as above.
lib_kill() {
  v_killed= v_round=0 v_procs=
  if ! [ "$1" -gt 0 ]; then return 1; fi
  lib_procs "$1" "$3" "$4"
  if [ -z "$v_procs" ]; then return 0; fi
  v_unmounted=
  lib_noted
  lib_stale
  kill -TERM $v_procs 2>/dev/null
  while [ $((v_round)) -lt $(($2 * 10)) ]; do
    lib_nap
    lib_procs "$1" "$3"
    if [ -z "$v_procs" ]; then return 0; fi
    v_round=$((v_round + 1))
  done
  v_round=0
  while [ $v_round -lt 60 ]; do
    lib_noted
    kill -KILL $v_procs 2>/dev/null
    # Who forks faster than we list is ended by the kernel in one go.
    if [ $v_round -ge 2 ] && command -v setpriv >/dev/null 2>&1; then
      setpriv --reuid "$1" --regid "$1" --clear-groups /bin/sh -c 'kill -KILL -1' >/dev/null 2>&1
    fi
    lib_procs "$1" "$3"
    if [ -z "$v_procs" ]; then return 0; fi
    if [ $v_round -ge 1 ]; then lib_nap; fi
    v_round=$((v_round + 1))
  done
  return 1
}

# The setpriv that can change the uid (that of busybox cannot), or no; looked up
# once.
lib_setpriv=

# lib_how: finds out, once, how to act as an account. Call it outside of a
# subshell, or it is found out again.
lib_how() {
  if [ -n "$lib_setpriv" ]; then return 0; fi
  lib_setpriv=/usr/bin/setpriv
  # A program of its own needs not be asked: those of busybox are links.
  if [ -x $lib_setpriv ] && [ ! -L $lib_setpriv ] && [ ! $lib_setpriv -ef /bin/busybox ]; then return 0; fi
  case $(setpriv --version 2>/dev/null) in *util-linux*) lib_setpriv=setpriv ;; *) lib_setpriv=no ;; esac
}

# lib_as NAME UID GID SCRIPT: becomes a constant script of sh as that account,
# without PAM where that is possible. Input comes from the caller, who calls it
# in a subshell.
lib_as() {
  lib_how
  if [ $lib_setpriv != no ]; then
    exec $lib_setpriv --reuid "$2" --regid "$3" --clear-groups /bin/sh -c "$4"
  elif command -v runuser >/dev/null 2>&1; then
    exec runuser -u "$1" -- /bin/sh -c "$4"
  else
    exec su -s /bin/sh -c "$4" "$1"
  fi
}
