# First program of a machine: pid 1 of the new namespaces, still with the host's
# root. Builds the machine's own root, moves into it and becomes sshd.
# Variables: LAB_DIR (keys, stage/, fs/), LAB_SHELL, LAB_SIZE, LAB_KEEP, LAB_HIDE
# and LAB_MOUNTS (lists, one path a line).
set -eu
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export PATH
umask 022
step=start
trap 'rc=$?; [ "$rc" -eq 0 ] || echo "lab: cannot $step" >&2' EXIT
nl='
'
fs=$LAB_DIR/fs
stage=$LAB_DIR/stage
r=$fs/root

step='make the mounts private'
mount --make-rprivate /
step='mount a tmpfs'
mount -t tmpfs -o "size=$LAB_SIZE,mode=755" lab "$fs"
mkdir "$fs/up" "$fs/work" "$r"
step='mount an overlay over /'
mount -t overlay -o "lowerdir=/,upperdir=$fs/up,workdir=$fs/work" lab "$r"

# File systems mounted below / do not show through an overlay of /: each gets one.
n=0
set -f
IFS=$nl
for d in $LAB_MOUNTS; do
	[ -d "$r$d" ] || continue
	n=$((n + 1))
	step="mount an overlay over $d"
	mkdir "$fs/up$n" "$fs/work$n"
	mount -t overlay -o "lowerdir=$d,upperdir=$fs/up$n,workdir=$fs/work$n" lab "$r$d"
done

step='hide what is the host'"'"'s own'
hide() { [ -L "$r$1" ] || [ ! -d "$r$1" ] || mount -t tmpfs -o "mode=$2,size=$LAB_SIZE" lab "$r$1"; }
for d in $LAB_HIDE; do hide "$d" 755; done
unset IFS
set +f
for d in dev home proc root run sys tmp var/tmp; do [ -d "$r/$d" ] || mkdir -p "$r/$d"; done
hide /home 755
hide /root 700
hide /run 755
hide /tmp 1777
hide /var/tmp 1777
mkdir -m 755 "$r/run/sshd"
mkdir -m 1777 "$r/run/lock"

step='mount /proc'
mount -t proc -o nosuid,nodev,noexec proc "$r/proc"
step='fill /dev'
mount -t tmpfs -o mode=755,size=1m lab "$r/dev"
mkdir "$r/dev/pts" "$r/dev/shm"
for d in null zero full random urandom tty; do
	: >"$r/dev/$d"
	mount --bind "/dev/$d" "$r/dev/$d"
done
mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5 devpts "$r/dev/pts"
mount -t tmpfs -o mode=1777,size=64m lab "$r/dev/shm"
ln -s pts/ptmx "$r/dev/ptmx"
ln -s /proc/self/fd "$r/dev/fd"
ln -s /proc/self/fd/0 "$r/dev/stdin"
ln -s /proc/self/fd/1 "$r/dev/stdout"
ln -s /proc/self/fd/2 "$r/dev/stderr"

step='write /etc'
rm -rf "$r"/etc/sudoers.d "$r"/etc/ssh/ssh_host_* "$r"/etc/ssh/sshd_config.d \
	"$r"/etc/cron.d "$r"/etc/resolv.conf "$r"/etc/nologin "$r"/run/nologin
mkdir -m 750 "$r/etc/sudoers.d"
mkdir -p -m 755 "$r/etc/ssh/sshd_config.d" "$r/etc/cron.d"
cp -R "$stage/etc/." "$r/etc/"
chmod 440 "$r/etc/sudoers" "$r"/etc/sudoers.d/*
chmod 600 "$r/etc/ssh/ssh_host_ed25519_key"
for f in shadow gshadow; do
	[ -e "$r/etc/$f" ] || continue
	chgrp shadow "$r/etc/$f" 2>/dev/null || :
	chmod 640 "$r/etc/$f"
done
rm -f "$r"/etc/passwd- "$r"/etc/shadow- "$r"/etc/group- "$r"/etc/gshadow- "$r"/etc/.pwd.lock
for f in lastlog faillog wtmp btmp; do [ ! -e "$r/var/log/$f" ] || : >"$r/var/log/$f"; done
for f in "$r"/etc/pam.d/*; do # the kernel may refuse a login uid inside a container; nobody attacks these passwords
	[ ! -f "$f" ] || sed -i -e 's/^\(session.*\)required\(.*pam_loginuid\)/\1optional\2/' \
		-e 's/^password.*pam_unix.*yescrypt/& rounds=3/' "$f"
done

step='name the machine'
read -r name <"$stage/etc/hostname"
hostname "$name"

step='put the chosen shell at /bin/sh'
if [ -n "$LAB_SHELL" ]; then
	ln -sf "$LAB_SHELL" "$r/bin/sh.lab"
	mv -f "$r/bin/sh.lab" "$r/bin/sh"
fi

step='enter the new root'
mkdir "$r/run/lab" "$r/run/lab/host"
cp -R "$stage/home" "$stage/users" "$stage/passwords" "$r/run/lab/"
cp "$stage/second.sh" "$r/run/lab/"
cd "$r"
if pivot_root . run/lab/host 2>/dev/null; then
	exec chroot . /bin/sh /run/lab/second.sh
fi
exec chroot "$r" /bin/sh /run/lab/second.sh
