# Second half, inside the new root: accounts, then sshd as pid 1.
set -eu
step='leave the host behind'
trap 'rc=$?; [ "$rc" -eq 0 ] || echo "lab: cannot $step" >&2' EXIT
cd /
[ ! -d /run/lab/host/proc ] || umount -l /run/lab/host

step='make the homes'
while IFS=: read -r name uid gid home; do
	[ "$name" = root ] || { mkdir -m 755 "$home"; [ ! -d /etc/skel ] || cp -R /etc/skel/. "$home/"; }
	mkdir -p -m 700 "$home/.ssh"
	cp /run/lab/home/authorized_keys "$home/.ssh/authorized_keys"
	chmod 600 "$home/.ssh/authorized_keys"
	chown -R "$uid:$gid" "$home"
done </run/lab/users

step='set the passwords'
chpasswd </run/lab/passwords

step='start sshd'
rm -rf /run/lab
# OpenSSH 9.8 and later punish failed logins by address, and all tests share one.
echo 'PerSourcePenalties no' >/etc/ssh/sshd_config.d/lab.conf
/usr/sbin/sshd -t 2>/dev/null || rm -f /etc/ssh/sshd_config.d/lab.conf
exec env -i PATH="$PATH" HOME=/root USER=root SHELL=/bin/sh LANG=C.UTF-8 TERM=dumb /usr/sbin/sshd -D -e
