# What kind of device this is.
v_id= v_like= v_ver=
for v_f in /etc/os-release /usr/lib/os-release; do
  if [ ! -r $v_f ]; then continue; fi
  while IFS='=' read -r v_k v_v; do
    v_v=${v_v#[\"\']} v_v=${v_v%[\"\']}
    case $v_k in ID) v_id=$v_v ;; ID_LIKE) v_like=$v_v ;; VERSION_ID) v_ver=$v_v ;; esac
  done <$v_f
  break
done
v_family=$v_id
case " $v_id $v_like " in
*" debian "*) v_family=debian ;;
*" rhel "* | *" fedora "* | *" centos "*) v_family=redhat ;;
*" suse "* | *suse*) v_family=suse ;;
*" alpine "*) v_family=alpine ;;
*" arch "*) v_family=arch ;;
esac
_out id "$v_id"
_out version "$v_ver"
_out os_family "$v_family"
v_kernel= v_host= v_arch=
{ read -r v_kernel </proc/sys/kernel/osrelease; } 2>/dev/null
{ read -r v_host </proc/sys/kernel/hostname; } 2>/dev/null
{ read -r v_arch </proc/sys/kernel/arch; } 2>/dev/null
if [ -z "$v_arch" ]; then v_arch=$(uname -m); fi
_out kernel "$v_kernel"
_out hostname "$v_host"
_out arch "$v_arch"
v_uid=
while read -r v_k v_a v_b v_rest; do if [ "$v_k" = Uid: ]; then v_uid=$v_b; break; fi; done </proc/$$/status
_out uid "$v_uid"
v_now=$(date '+%s %z')
_out clock "${v_now% *}"
_out tz "${v_now#* }"
if command -v sudo >/dev/null 2>&1; then
  v_v=$(sudo -V 2>/dev/null)
  v_v=${v_v%%"$lib_nl"*}
  _out sudo "${v_v##* }"
fi
if command -v sshd >/dev/null 2>&1; then
  v_v=$(sshd -V 2>&1)
  case $v_v in *OpenSSH_*) v_v=${v_v#*OpenSSH_}; _out sshd "${v_v%%[ ,]*}" ;; esac
fi
fa_has() { if command -v "$1" >/dev/null 2>&1; then _out "has_$1" true; else _out "has_$1" false; fi; }
fa_has sudo; fa_has visudo; fa_has useradd; fa_has loginctl
if [ -d /run/systemd/system ]; then _out has_systemd true; else _out has_systemd false; fi
