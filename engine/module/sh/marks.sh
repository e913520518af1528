# What says on the device that runner made it, and accounts that the caller asks for.
# mk_keys: v_keys = lines of authorized_keys files that bear a mark, each behind
# its path. The files belong to people: only plain ones are looked at, and only
# what looks like a mark is told.
mk_keys() {
  v_files= v_keys=
  while IFS= read -r v_l; do
    v_r=${v_l#*:*:*:*:*:} v_r=${v_r%%:*}
    v_f=$v_r/.ssh/authorized_keys
    case $v_r in /*) if [ -f "$v_f" ] && [ ! -L "$v_f" ] && [ ! -L "$v_r/.ssh" ]; then v_files="$v_files$v_f$lib_nl"; fi ;; esac
  done </etc/passwd
  if [ -z "$v_files" ]; then return 0; fi
  v_keys=$(
    IFS=$lib_nl
    set -f
    grep -sHE '[ 	]runner-g-[a-z2-7]{26}$' $v_files | head -c 262144
  )
}
# mk_accounts: v_items = the accounts, a line each.
mk_accounts() {
  v_items=$(awk -F: -v names="$v_names" -v uids="$v_uids" -v first="${a_first:-0}" -v last="${a_last:-0}" '
    FILENAME == "/etc/group" {
      own[$1] = $4
      n = split($4, m, ",")
      for (i = 1; i <= n; i++) in_[m[i]] = in_[m[i]] (in_[m[i]] == "" ? "" : ",") $1
      next
    }
    FILENAME == "/etc/shadow" { state[$1] = substr($2, 1, 1) == "!" ? "locked" : "open"; until[$1] = $8; next }
    index($5, "runner g-") == 1 || index(names, " " $1 " ") || index(uids, " " $3 " ") || last > 0 && $3 + 0 >= first && $3 + 0 <= last {
      if (shown++ >= 2000) { print "more"; exit }
      text = $5
      gsub(/\t/, " ", text)
      printf "account\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", $1, $3, $1 in state ? state[$1] : "none", until[$1], $7, in_[$1], own[$1], $6, text
    }' /etc/group /etc/shadow /etc/passwd)
}
v_names=' ' v_uids=' '
for v_n in $a_names; do lib_known "$v_n" || return 1; v_names="$v_names$v_n "; done
for v_n in $a_uids; do lib_number "$v_n" uid || return 1; v_uids="$v_uids$v_n "; done
lib_number "$a_first" first || return 1
lib_number "$a_last" last || return 1
v_now=$(date +%s)
_out clock "$v_now"
v_id=
{ read -r v_id </etc/machine-id; } 2>/dev/null
_out machine "$v_id"
mk_accounts
for v_f in /etc/sudoers.d/*; do
  if [ ! -f "$v_f" ] || [ -L "$v_f" ]; then continue; fi
  v_first= v_second= v_more=
  { IFS= read -r v_first; IFS= read -r v_second; IFS= read -r v_more; } <"$v_f"
  if [ "$v_first" != "$lib_sumark" ]; then continue; fi
  case $v_second in '# '*) v_second=${v_second#'# '} ;; *) v_more=$v_second v_second= ;; esac
  case $v_more in *"$lib_tab"*) v_more=${v_more%%"$lib_tab"*} ;; esac
  v_items="$v_items${v_items:+$lib_nl}sudoers$lib_tab${v_f##*/}$lib_tab${v_more%% *}$lib_tab$v_second"
done
mk_keys
while IFS= read -r v_l; do
  case $v_l in ?*) v_items="$v_items${v_items:+$lib_nl}key$lib_tab$v_l" ;; esac
done <<EOF
$v_keys
EOF
_out items "$v_items"
