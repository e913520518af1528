# lib_due: 1 when creates or removes say that there is nothing to do.
lib_due() {
  if [ -n "$a_creates" ] && { [ -e "$a_creates" ] || [ -L "$a_creates" ]; }; then _say "$a_creates is there already"; return 1; fi
  if [ -n "$a_removes" ] && [ ! -e "$a_removes" ] && [ ! -L "$a_removes" ]; then _say "$a_removes is not there"; return 1; fi
}
# lib_clean: in a subshell, hides what belongs to runner from what it starts.
lib_clean() { unset _N __n __rs; if [ -n "$a_chdir" ]; then cd "$a_chdir" || exit 1; fi; }
