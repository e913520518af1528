# The least that takes the account away again and proves it: four steps. Given:
# ACCOUNT UID_NO. Prints like create.sh. Runs again without harm.
set -u
step() { printf '@ %s %s\n' "$1" "$2"; [ "$2" -eq 0 ] || exit 1; }
there() { id -u "$ACCOUNT" >/dev/null 2>&1; }

# 1 no new login from here on
! there || usermod -L -e 1970-01-02 "$ACCOUNT"
step 1 $?

# 2 nothing of it runs
n=0
while pkill -KILL -U "$UID_NO" && [ $n -lt 200 ]; do
	n=$((n + 1))
	! pgrep -U "$UID_NO" >/dev/null || sleep 0.02
done
! pgrep -r D,R,S,T -U "$UID_NO" >/dev/null
step 2 $?

# 3 leftovers, account, home, sudo
find /tmp /var/tmp /dev/shm /run /var/spool/cron /var/mail -xdev -uid "$UID_NO" -delete
! there || userdel -r "$ACCOUNT" 2>/dev/null
rm -f "/etc/sudoers.d/$ACCOUNT" "/etc/sudoers.d/.$ACCOUNT.new"
step 3 $?

# 4 read back its absence
! there && ! getent passwd "$UID_NO" >/dev/null && ! getent group "$ACCOUNT" >/dev/null &&
	[ ! -e "/home/$ACCOUNT" ] && [ ! -e "/etc/sudoers.d/$ACCOUNT" ] && ! pgrep -U "$UID_NO" >/dev/null
step 4 $?
