#!/bin/sh
# packages.sh demo|test: installs what the demo or the tests need and this machine
# lacks, by apt-get. Exit 0: all there; 3: something is missing, said in one line.
set -u
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

# program:package, or path:package, by what needs it
demo='sshd:openssh-server ssh:openssh-client sudo:sudo useradd:passwd nsenter:util-linux
mount:mount hostname:hostname ip:iproute2 ps:procps busybox:busybox crontab:cron at:at
update-ca-certificates:ca-certificates'
test="$demo gcc:gcc dash:dash bash:bash ksh93:ksh93u+m mksh:mksh zsh:zsh yash:yash posh:posh fish:fish tcsh:tcsh node:nodejs npm:npm
krb5kdc:krb5-kdc kadmin.local:krb5-admin-server kinit:krb5-user /usr/lib/python3/dist-packages/gssapi:python3-gssapi
samba:samba samba-tool:samba-common-bin /usr/share/samba/setup/ad-schema:samba-ad-provision /usr/share/doc/samba-dsdb-modules:samba-dsdb-modules
/usr/lib/python3/dist-packages/samba:python3-samba /usr/lib/postgresql/15/bin/initdb:postgresql-15 pgbouncer:pgbouncer"

case ${1-} in
demo) wanted=$demo ;;
test) wanted=$test ;;
*)
	echo "usage: $0 demo|test" >&2
	exit 3
	;;
esac

find_missing() {
	programs='' packages=''
	for w in $wanted; do
		case $w in
		/*) [ -e "${w%%:*}" ] && continue ;;
		*) command -v "${w%%:*}" >/dev/null 2>&1 && continue ;;
		esac
		programs="$programs ${w%%:*}"
		packages="$packages ${w#*:}"
	done
	# the race detector links with the C library
	case $wanted in *gcc:*)
		[ -e /usr/include/stdlib.h ] || programs="$programs libc-headers" packages="$packages libc6-dev"
		;;
	esac
}

give_up() {
	echo "missing:$programs ($1); install the packages:$packages" >&2
	exit 3
}

find_missing
[ -n "$packages" ] || exit 0
command -v apt-get >/dev/null 2>&1 || give_up 'there is no apt-get here'
[ "$(id -u)" -eq 0 ] || give_up 'installing needs root'

# One installation at a time: a second one would take our policy for the host's own.
exec 9>/run/runner-packages.lock
flock 9
find_missing
[ -n "$packages" ] || exit 0

policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then # nothing we install may start as a service
	trap 'rm -f "$policy"' EXIT
	trap 'exit 130' INT TERM HUP
	printf '#!/bin/sh\nexit 101\n' >"$policy"
	chmod 755 "$policy"
fi

log=$(mktemp)
apt() {
	DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=600 -o Acquire::Retries=3 \
		-o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold "$@" 9>&- </dev/null >>"$log" 2>&1
}
echo "installing:$packages"
# shellcheck disable=SC2086 # a list of words
apt install --no-install-recommends $packages || {
	apt update # the lists are absent or old
	apt install --no-install-recommends $packages
}
find_missing
if [ -n "$packages" ]; then
	grep -E '^(E|W|Err):' "$log" | tail -n 5 >&2
	rm -f "$log"
	give_up 'apt-get could not install them'
fi
rm -f "$log"
