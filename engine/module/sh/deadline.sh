# May what follows still begin? Tenths of seconds since the device started, or,
# where the kernel does not tell that, seconds of its clock.
v_now=
{ read -r v_now v_rest </proc/uptime; } 2>/dev/null
case $v_now in
*.[0-9]*) v_t=${v_now#*.}; v_now=t${v_now%%.*}${v_t%"${v_t#?}"} ;;
*) v_now=s$(date +%s) ;;
esac
_out now "$v_now"
if [ -z "$a_before" ]; then return 0; fi
if [ "${v_now%"${v_now#?}"}" = "${a_before%"${a_before#?}"}" ] && [ "${v_now#?}" -lt "${a_before#?}" ]; then return 0; fi
_out late true
return 1
