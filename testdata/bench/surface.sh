# Everything of the device that bears the account's name or uid, one object a line,
# and the device's clock. Given: ACCOUNT UID_NO.
date +'clock %s'
for db in passwd shadow group gshadow subuid subgid; do
	[ -e "/etc/$db" ] && awk -F: -v n="$ACCOUNT" -v u="$UID_NO" -v db="$db" '
		$1 == n || (db == "passwd" && $3 == u) { print db, $1; next }
		(db == "group" || db == "gshadow") && ("," $4 ",") ~ ("," n ",") { print db "-member", $1 }' "/etc/$db"
done
grep -lsw -e "$ACCOUNT" /etc/sudoers /etc/sudoers.d/* /etc/sudoers.d/.[!.]* | sed 's/^/sudoers /'
[ ! -e "/home/$ACCOUNT" ] || echo "home /home/$ACCOUNT"
find /tmp /var/tmp /dev/shm /run /home /var/spool/cron /var/mail -xdev -uid "$UID_NO" ! -path "/home/$ACCOUNT/*" 2>/dev/null | sed 's/^/file /'
ps -e -o uid=,pid=,comm= | awk -v u="$UID_NO" '$1 == u { print "process", $2, $3 }'
