# lib_places NAME UID: with UID - for unknown, v_places = files and folders outside the databases that
# bear the name or uid of an account, one "kind<tab>path" a line.
lib_places() {
  v_places=
  for v_f in crontab:/var/spool/cron/crontabs/"$1" crontab:/var/spool/cron/"$1" crontab:/etc/crontabs/"$1" crontab:/var/spool/cron/tabs/"$1" \
    linger:/var/lib/systemd/linger/"$1" mail:/var/mail/"$1" sudo-ts:/run/sudo/ts/"$1" sudo-ts:/run/sudo/ts/"$2" \
    sudo-ts:/var/lib/sudo/lectured/"$1" sudo-ts:/var/lib/sudo/lectured/"$2" sudo-ts:/var/db/sudo/lectured/"$1" sudo-ts:/var/db/sudo/lectured/"$2" \
    faillock:/run/faillock/"$1" accounts-service:/var/lib/AccountsService/users/"$1" run-user:/run/user/"$2"; do
    if [ -e "${v_f#*:}" ] || [ -L "${v_f#*:}" ]; then
      case $v_f in */) continue ;; esac
      v_places="$v_places${v_f%%:*}$lib_tab${v_f#*:}$lib_nl"
    fi
  done
  if { [ -e "/var/spool/mail/$1" ] || [ -L "/var/spool/mail/$1" ]; } && [ ! "/var/spool/mail/$1" -ef "/var/mail/$1" ]; then
    v_places="${v_places}mail$lib_tab/var/spool/mail/$1$lib_nl"
  fi
}

# lib_ipc UID: v_ipc = System V objects that UID owns or made, one
# "m|s|q id" a line (shared memory, semaphores, queues).
lib_ipc() {
  v_ipc=
  if [ -r /proc/sysvipc/shm ]; then
    while read -r v_k v_i v_1 v_2 v_3 v_4 v_5 v_u v_6 v_c v_7; do
      if [ "$v_u" = "$1" ] || [ "$v_c" = "$1" ]; then v_ipc="${v_ipc}m $v_i$lib_nl"; fi
    done </proc/sysvipc/shm
    while read -r v_k v_i v_1 v_2 v_u v_6 v_c v_7; do
      if [ "$v_u" = "$1" ] || [ "$v_c" = "$1" ]; then v_ipc="${v_ipc}s $v_i$lib_nl"; fi
    done </proc/sysvipc/sem
    while read -r v_k v_i v_1 v_2 v_3 v_4 v_5 v_u v_6 v_c v_7; do
      if [ "$v_u" = "$1" ] || [ "$v_c" = "$1" ]; then v_ipc="${v_ipc}q $v_i$lib_nl"; fi
    done </proc/sysvipc/msg
  fi
}

# lib_find UID PATHS LIMIT: v_found = files of UID on the file systems of PATHS
# (one a line), at most LIMIT, with jobs of at and POSIX queues. Line breaks in
# names show as "?".
lib_find() {
  lib_stale
  v_found=
  lib_dirs "$2"
  if [ -z "$v_dirs" ]; then return 0; fi
  # Most often there is nothing, and one program says so.
  if v_found=$(IFS=$lib_nl; set -f; exec find $v_dirs -xdev -user "$1" -exec sh -c 'echo 1' {} + 2>/dev/null) && [ -z "$v_found" ]; then return 0; fi
  v_found=$(IFS=$lib_nl; set -f; find $v_dirs -xdev -user "$1" -print0 2>/dev/null | tr '\n\000' '?\n' | head -n "$3")
}
lib_dirs() {
  v_dirs=
  for v_f in /var/spool/at /var/spool/cron/atjobs /dev/mqueue; do if [ -d "$v_f" ]; then v_dirs="$v_dirs$v_f$lib_nl"; fi; done
  while IFS= read -r v_f; do
    if [ -d "$v_f" ] && [ ! -L "$v_f" ]; then v_dirs="$v_dirs$v_f$lib_nl"; fi
  done <<EOF
$1
EOF
}
