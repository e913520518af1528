# Waits on the device for a path, its absence, or a local port that listens.
# The time-out of the step ends it.
wf_ok() {
  if [ -n "$a_path" ] && [ ! -e "$a_path" ]; then return 1; fi
  if [ -n "$a_gone" ] && { [ -e "$a_gone" ] || [ -L "$a_gone" ]; }; then return 1; fi
  if [ "$v_port" -gt 0 ]; then grep -qsi ": [0-9A-F]*:$v_hex 0*:0000 0A " /proc/net/tcp /proc/net/tcp6 || return 1; fi
}
v_port=${a_port:-0}
lib_number "$v_port" port || return 1
v_hex=$(printf '%04X' "$v_port")
if [ "$M" != apply ]; then return 0; fi
until wf_ok; do lib_nap; done
