# The least that makes an account for a while: five steps, as a careful admin would
# write them. Given: ACCOUNT UID_NO COMMENT KEY PASSWORD, LAST_DAY (2026-01-31),
# UNTIL (20260131235959Z). Each step prints "@ number status"; the first failure ends it.
set -u
umask 022
step() { printf '@ %s %s\n' "$1" "$2"; [ "$2" -eq 0 ] || exit 1; }

# 1 account with uid and expiry
useradd -m -s /bin/bash -u "$UID_NO" -U -c "$COMMENT" -e "$LAST_DAY" "$ACCOUNT"
step 1 $?

# 2 password, never in an argument
printf '%s:%s\n' "$ACCOUNT" "$PASSWORD" | chpasswd
step 2 $?

# 3 key that sshd stops accepting by itself
ssh_dir=/home/$ACCOUNT/.ssh
install -d -m 700 -o "$ACCOUNT" -g "$ACCOUNT" "$ssh_dir" &&
	(umask 077 && printf 'expiry-time="%s" %s\n' "$UNTIL" "$KEY" >"$ssh_dir/.authorized_keys.new") &&
	chown "$ACCOUNT:$ACCOUNT" "$ssh_dir/.authorized_keys.new" &&
	mv -f "$ssh_dir/.authorized_keys.new" "$ssh_dir/authorized_keys"
step 3 $?

# 4 sudoers drop-in that ends by itself, checked before it counts
(umask 227 && printf '%s ALL=(ALL:ALL) NOTAFTER=%s NOPASSWD: ALL\n' "$ACCOUNT" "$UNTIL" >"/etc/sudoers.d/.$ACCOUNT.new") &&
	visudo -cqf "/etc/sudoers.d/.$ACCOUNT.new" &&
	mv -f "/etc/sudoers.d/.$ACCOUNT.new" "/etc/sudoers.d/$ACCOUNT"
step 4 $?

# 5 read back
[ "$(id -u "$ACCOUNT")" = "$UID_NO" ] && [ -s "$ssh_dir/authorized_keys" ] &&
	sudo -n -l -U "$ACCOUNT" | grep -q NOPASSWD
step 5 $?
