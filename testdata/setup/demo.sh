#!/bin/sh
# The main job, with the real commands, on a throw-away machine: `make demo`.
set -eu
cd "$(dirname "$0")/../.."
PATH=$PWD/bin:$PATH
w=$(mktemp -d)
export RUNNER_WORKSPACE="$w/demo"
tidy() { runner lab down demo >/dev/null 2>&1 || :; rm -rf "$w"; }
trap tidy EXIT
trap 'exit 130' INT TERM

if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then bold=$(printf '\033[1m') off=$(printf '\033[0m'); else bold='' off=''; fi
say() { printf '\n%s# %s%s\n' "$bold" "$*" "$off"; }
show() { printf '%s$ %s%s\n' "$bold" "$*" "$off"; }
run() { show "$@"; "$@"; }

say "A workspace, and a throw-away machine with its own /etc, /home, processes and sshd"
run runner init "$w/demo"
run runner lab up demo --into "$w/demo"

say "Check the templates and the files before anything happens"
run runner template check
run runner inventory check

say "Ask for access: an account of your own is made, with a key, for one hour"
run runner grant request demo-admin --for 1h --reason "show it" --key-out "$w/key" -p 'sudo=ALL=(ALL) NOPASSWD: /usr/bin/id'
id=$(runner grant list -o json | sed -n 's/.*"id": *"\(g-[a-z0-9]*\)".*/\1/p' | head -n 1)
account=$(runner grant show "$id" -o json | sed -n 's/.*"account": *"\([^"]*\)".*/\1/p' | head -n 1)
set -- $(runner grant show "$id" -o json | sed -n 's/.*"address": *"\([^"]*\)".*/\1/p; s/.*"port": *\([0-9]*\).*/\1/p')
address=$1 port=$2

login() {
	show "ssh -p $port $account@$address '$1'"
	ssh -i "$w/key" -p "$port" -o BatchMode=yes -o LogLevel=ERROR -o StrictHostKeyChecking=yes \
		-o UserKnownHostsFile="$w/demo/state/lab/demo/known_hosts" "$account@$address" "$1"
}
say "Log in with it; sudo does what the rule says"
login 'id; sudo -n id -un; touch /tmp/left-behind'

say "Its deletion job waits from the first moment"
run runner job list

say "A second grant for the same person is refused"
show runner grant request demo-admin
runner grant request demo-admin && exit 1 || echo "exit $?"

say "End the session: the account is locked, its processes end, its files go, and that is proven"
run runner grant end "$id"

say "The log of the grant, and its receipt"
run runner grant log "$id"
run runner grant receipt "$id"
run runner job list --grant "$id"

say "Logging in again fails"
if login id; then exit 1; else echo "exit $? - as it should be"; fi
say "Done. Nothing is left; the machine goes away now."
