package ssh

import "strings"

// prelude is sent once per coordinator. Its own names start with two
// underscores; what bodies call or read starts with one. What is filled in: the
// nonce, whether frames go to both streams, and what the server says it is. It
// needs a POSIX shell; where /proc is missing, processes are known by group only. _put
// writes its argument as it is by what is built into the shell: printf is a
// program in mksh and posh, and a value would stand in its argv. Every write
// wakes sshd, so the end of a step travels with the frame that follows at once.
const prelude = `__n='%NONCE%' __rs='%RS%' __nl='
'
_peer='%PEER%' _turn=0
__env() {
IFS=' 	
'
set +e +f +u; umask 077
PATH=/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/sbin:/usr/local/bin LC_ALL=C LANG=C
export PATH LC_ALL LANG
cd /
}
unset CDPATH ENV BASH_ENV
__env
case ${KSH_VERSION-}${POSH_VERSION-} in
'') _put() { printf %s "$1"; };;
*MIRBSD*|*PD\ KSH*|*LEGACY*) _put() { print -nr -- "$1"; };;
[0-9]*) _put() {
__px= __py=$IFS
__pz=$1.
case $1 in -*) __px='\0055' __pz=${__pz#-};; esac
set -f; IFS='\'
set -- $__pz
set +f; IFS=$__py
while [ $# -gt 1 ]; do echo "$__px$1\c"; __px='\\'; shift; done
echo "$__px${1%.}\c"
};;
*) _put() { printf %s "$1"; };;
esac
__w() { _put "$1$__nl"; }
__two='%TWO%' __e=
__m() {
__w "$__e$__rs$__n $1" || __gone
[ -z "$__two" ] || __w "$__e$__rs$__n $1" >&2 || __gone
__e=
}
__gone() {
[ -n "$__keep" ] || exit 141
__lost=1 _turn=$((_turn+1))
exec >/dev/null 2>&1
}
__anew() {
[ "$__rc" != 0 ] && [ -z "$__lost" ] || return 1
__w "$__rs$__n K" 2>/dev/null && return 1
__gone
}
__len() { __l=${#1}; }
case ${YASH_VERSION-} in ?*) __len() { __l=$(_put "$1" | wc -c); __l=$((__l)); };; esac
__fact() { __len "$3"; __w "$__rs$__n F $1 $2 $__l$__nl$3"; }
__hold() { case " $__want " in *" $1 "*) eval "o${__i}_$1=\$2";; esac; }
__key() { case $1 in ''|*[!A-Za-z0-9_.-]*) echo "runner: bad name of a fact" >&2; return 1;; esac; }
_out() {
__o=
while [ $# -gt 0 ]; do
case $# in 1) set -- "$1" '';; esac
__key "$1" || return
__hold "$1" "$2"
__len "$2"
__o="$__o$__rs$__n F $__i $1 $__l$__nl$2$__nl"
shift 2
done
_put "$__o"
}
_state() { __key "$1" || return; __hold "state_$1" "$2"; __fact "$__i" "state.$1" "$2"; }
_say() { _out msg "$1"; }
_changed() { __c=true; }
__j() { [ -z "$__pf" ] || { __w "$1" >>"$__pf"; } 2>/dev/null; }
__begin() { __k=0 __f=false __c=false __rc=0; __m "B $__i"; __j "B $__i"; }
__try() { __k=$((__k+1)) __c=false; __env; }
__again() {
_turn=$((_turn+1))
__w "$__rs$__n R $__i $__k" || __gone
[ "$2" = 0 ] || sleep "$1" 2>/dev/null || sleep "$2"
}
__end() { __j "E $__i $__rc"; __e="$__rs$__n E $__i $__rc $__c $__f $__k$__nl"; }
__skip() { __m "S $__i $1"; }
__read() {
__y=
{ read -r __y <"/proc/$1/stat"; } 2>/dev/null || return 1
}
__who() {
__pg=- __sid=- __st=-
if __read $$; then
set -- ${__y##*\)}
__pg=$3 __sid=$4 __st=${20}
else
__pg=$(ps -o pgid= -p $$ 2>/dev/null)
set -- $__pg
__pg=${1:--}
fi
case $__pg in $$|$PPID) ;; *) __pg=- __sid=-;; esac
case $__sid in $__pg|$PPID) ;; *) __sid=-;; esac
}
__who
__uid=
{ while read -r __x __y __z; do case $__x in Uid:) __uid=${__y%%	*}; break;; esac; done </proc/$$/status; } 2>/dev/null
[ -n "$__uid" ] || __uid=$(id -u)
__dir() {
[ -z "$__pd" ] || return 0
if [ "$__uid" != 0 ]; then
__x=/tmp/runner-$__uid
[ ! -d "/run/user/$__uid" ] || __x=/run/user/$__uid/runner
elif [ -d /run ]; then __x=/run/runner
else __x=/var/run/runner
fi
[ -d "$__x" ] || mkdir -m 700 "$__x" 2>/dev/null
if [ -d "$__x" ] && [ ! -h "$__x" ] && [ -O "$__x" ] && [ -w "$__x" ]; then __pd=$__x; return 0; fi
return 1
}
__pd= __pf=
__open() {
_turn=$((_turn+1)) __stop= __lost= __keep=$1 __pf= __id=$2 __scope=$3
if [ -n "$1" ]; then trap '' PIPE HUP; else trap : PIPE; trap - HUP; fi
__w "$__rs$__n H $$ $__pg $__sid $__st" || __gone
}
__file() {
[ -n "$__id" ] && [ -n "$__scope" ] || return 0
if __dir; then
__pf=$__pd/$__scope.$__id
{ __w "P $$ $__pg $__st $__sid" >"$__pf"; } 2>/dev/null && return 0
fi
__pf=
echo "runner: no progress file: $__x cannot be written" >&2
}
__shut() {
[ -z "$__pf" ] || rm -f "$__pf"
__pf=
__m Z
}
`

// comparing is sent before the first batch that compares numbers.
const comparing = `__less() {
case $1 in ''|-|*[!0-9-]*|?*-*) return 1;; esac
case $3 in ''|-|*[!0-9-]*|?*-*) return 1;; esac
__num "$1"; __xs=$__s __xm=$__d
__num "$3"
if [ "$__xs" != "$__s" ]; then [ -n "$__xs" ]; return; fi
if [ -z "$__s" ]; then __below "$__xm" "$2" "$__d"; else __below "$__d" "$2" "$__xm"; fi
}
__num() {
__s= __d=${1#-}
case $1 in -*) __s=-;; esac
while :; do case $__d in 0?*) __d=${__d#0};; *) break;; esac; done
[ "$__d" != 0 ] || __s=
}
__below() {
[ ${#1} -eq ${#3} ] || { [ ${#1} -lt ${#3} ]; return; }
__a=$1 __b=$3
while [ ${#__a} -gt 9 ]; do
__ar=${__a#?????????} __br=${__b#?????????}
__a=${__a%"$__ar"} __b=${__b%"$__br"}
[ "1$__a" -eq "1$__b" ] || { [ "1$__a" -lt "1$__b" ]; return; }
__a=$__ar __b=$__br
done
[ "1$__a" "$2" "1$__b" ]
}`

// reaping is sent before what ends other coordinators.
const reaping = `__alive() {
__read "$1" || return 1
set -- "$2" ${__y##*\)}
[ "$2" != Z ] && [ "$2" != X ] && [ "${21}" = "$1" ]
}
__slurp() {
__v= __p=
while read -r __y; do
[ -n "$__p" ] || case $__y in P\ *) __p=$__y;; esac
__v=$__v$__y$__nl
done <"$1"
}
__take() {
[ -z "$__e" ] || { _put "$__e" && { [ -z "$__two" ] || _put "$__e" >&2; }; } || __gone
__e=
__dir || return 0
for __f in "$__pd/$1".*; do
[ -f "$__f" ] && [ ! -h "$__f" ] && [ "$__f" != "$__pf" ] || continue
__slurp "$__f"
set -- "$1" $__p
__reap "${3:--}" "${4:--}" "${5:--}" "${6:--}"
__slurp "$__f"
__fact -1 "progress.${__f##*.}" "$__v"
rm -f "$__f"
set -- "$1"
done
}
__scan() {
__new= __more=1
while [ -n "$__more" ]; do
__more=
for __x in /proc/[0-9]*; do
__x=${__x#/proc/}
case $__set in *" $__x "*) continue;; esac
__read "$__x" || continue
__tree $__x ${__y##*\)}
done
done
}
__tree() {
case $2 in Z|X) return;; esac
[ "$1" != $$ ] || return
case $__set in *" $3 "*) ;; *)
[ "$4" = "$__rpg" ] || [ "$5" = "$__rsid" ] || return
esac
__set="$__set$1 " __new="$__new $1" __more=1
}
__left() {
for __x in $__set; do
__read "$__x" || continue
set -- ${__y##*\)}
case $1 in Z|X) ;; *) return 0;; esac
done
return 1
}
__reap() {
[ "$1" != $$ ] && [ "$1" != - ] || return 0
__rpg=$2 __rsid=$4
if ! __read $$; then
[ "$2" = - ] || kill -s KILL -- "-$2" 2>/dev/null
return 0
fi
__alive "$1" "$3" || return 0
__set=" $1 "
kill -s STOP "$1" 2>/dev/null
[ "$2" = - ] || kill -s STOP -- "-$2" 2>/dev/null
__scan
while [ -n "$__new" ]; do
kill -s STOP $__new 2>/dev/null
__scan
done
[ "$2" = - ] || kill -s KILL -- "-$2" 2>/dev/null
kill -s KILL $__set 2>/dev/null
__q=0
while __left && [ $__q -lt 50 ]; do
sleep 0.1 2>/dev/null || sleep 1
__q=$((__q+1))
done
}`

// newPrelude returns the prelude of a coordinator whose streams are apart
// (two) or the same, on a server that calls itself peer.
func newPrelude(nonce, peer string, two bool) string {
	mark := ""
	if two {
		mark = "1"
	}
	peer = strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("._-+", r) {
			return r
		}
		return ' '
	}, peer)
	return strings.NewReplacer("%NONCE%", nonce, "%PEER%", peer, "%RS%", string(rune(rs)), "%TWO%", mark).Replace(prelude)
}
