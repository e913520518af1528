package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"runner/engine/lab"
	"runner/engine/lab/labtest"
)

// binary builds the program once, as a user would run it.
var binary = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "runner-crash-")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "runner")
	out, err := exec.Command("go", "build", "-o", path, ".").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("go build: %w: %s", err, out)
	}
	return path, nil
})

// crashSite is a workspace with the built program and a machine whose programs
// can be stopped in their tracks.
type crashSite struct {
	t   testing.TB
	bin string
	dir string
	box *lab.Machine
}

const crashInventory = `schema: runner/v1
kind: inventory
name: Linux-SSH
transport: ssh
methods: [publickey]
---
schema: runner/v1
kind: device
name: box
address: 127.0.0.1
port: %d
platform: linux
inventory: Linux-SSH
host_keys: ["%s"]
---
schema: runner/v1
kind: credential
name: admin
device: box
authentication: {user: jitadm, secret_from: {file: %s, kind: private_key}}
jit: {enabled: true, create: linux-user, delete: linux-user}
params: {sudo: "ALL=(ALL) NOPASSWD: /usr/bin/id", groups: [ops]}
`

// trapped replaces a program of the machine by one that, when armed, stops
// before or after the real one has done its work, until it is let go.
const trapped = `set -e
groupadd -f ops
mkdir -p /run/trap; chmod 777 /run/trap
for p in useradd chpasswd usermod visudo userdel find; do
  at=$(command -v $p); mv "$at" "$at.real"
  cat >"$at" <<X
#!/bin/sh
stop() {
  [ -e /run/trap/$p.\$1 ] && rm /run/trap/$p.\$1 2>/dev/null || return 0
  : >/run/trap/hit
  n=0; while [ ! -e /run/trap/go ] && [ \$n -lt 500 ]; do sleep 0.02; n=\$((n+1)); done
}
stop before
$at.real "\$@"; rc=\$?
stop after
exit \$rc
X
  chmod 755 "$at"
done`

func newCrashSite(tb testing.TB) *crashSite {
	tb.Helper()
	bin, err := binary()
	if err != nil {
		tb.Fatal(err)
	}
	s := &crashSite{t: tb, bin: bin, dir: tb.TempDir(), box: labtest.StartT(tb, lab.Config{Name: "box"})}
	s.sh(trapped)
	s.write("runner.yaml", "schema: runner/v1\nkind: workspace\n")
	s.write("inventories/all.yaml", fmt.Sprintf(crashInventory, s.box.Port, s.box.HostKey, s.box.KeyFile()))
	// the shipped templates, with a shorter time-out, so that the second look at
	// what a dead worker may have left running comes soon
	for _, kind := range []string{"create", "delete"} {
		text, err := os.ReadFile(filepath.Join("..", "..", "templates", kind, "linux-user.yaml"))
		if err != nil {
			tb.Fatal(err)
		}
		short := bytes.ReplaceAll(bytes.ReplaceAll(text, []byte("timeout: 30s"), []byte("timeout: 5s")), []byte("timeout: 60s"), []byte("timeout: 5s"))
		if bytes.Equal(short, text) {
			tb.Fatalf("the %s template has another time-out now: change this test", kind)
		}
		s.write("templates/"+kind+"/linux-user.yaml", string(short))
	}
	return s
}

func (s *crashSite) write(name, text string) {
	s.t.Helper()
	path := filepath.Join(s.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		s.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

func (s *crashSite) sh(script string) string {
	s.t.Helper()
	out, err := s.box.Shell(s.t.Context(), script)
	if err != nil {
		s.t.Fatalf("%s: %v", script, err)
	}
	return out
}

func (s *crashSite) command(args ...string) *exec.Cmd {
	cmd := exec.CommandContext(s.t.Context(), s.bin, append([]string{"--workspace", s.dir}, args...)...)
	cmd.Env = append(os.Environ(), "NO_COLOR=1")
	return cmd
}

// run runs a command to its end and returns what it printed.
func (s *crashSite) run(args ...string) (stdout, stderr string, code int) {
	s.t.Helper()
	var out, errs bytes.Buffer
	cmd := s.command(args...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	_ = cmd.Run()
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// killAt starts a command, waits until the machine has reached the moment, and
// kills it with SIGKILL there. It reports false when the command ended without
// passing the moment.
func (s *crashSite) killAt(moment string, args ...string) bool {
	s.t.Helper()
	s.sh("rm -f /run/trap/*; : >/run/trap/" + moment + "; chmod 666 /run/trap/*")
	cmd := s.command(args...)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }()
	hit := s.reached(ended)
	if hit {
		if err := cmd.Process.Signal(syscall.SIGKILL); err != nil {
			s.t.Fatal(err)
		}
	}
	<-ended
	if !hit {
		s.t.Logf("%v never came to %s:\n%s", args, moment, errs.String())
	}
	return hit
}

func (s *crashSite) reached(ended <-chan struct{}) bool {
	s.t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for range 1000 {
		select {
		case <-ended:
			return false
		case <-tick.C:
		}
		if strings.Contains(s.sh("ls /run/trap"), "hit") {
			return true
		}
	}
	s.t.Fatal("the command neither ended nor came to the moment")
	return false
}

// letGo lets what the dead program started on the machine go on: the worst
// that can happen to a removal that is under way by then.
func (s *crashSite) letGo() { s.sh(": >/run/trap/go; rm -f /run/trap/*.before /run/trap/*.after") }

type grantView struct {
	ID        string `json:"id"`
	State     string `json:"state"`
	Requester string `json:"requester"`
	Account   string `json:"account"`
	UID       int64  `json:"uid"`
}

func (s *crashSite) grants() []grantView {
	s.t.Helper()
	out, errs, code := s.run("grant", "list", "--all", "-o", "json")
	if code != 0 {
		s.t.Fatalf("grant list: exit %d: %s", code, errs)
	}
	var l []grantView
	if err := json.Unmarshal([]byte(out), &l); err != nil {
		s.t.Fatalf("%v: %s", err, out)
	}
	return l
}

// grantOf returns the grant of the n-th requester.
func (s *crashSite) grantOf(n int) grantView {
	s.t.Helper()
	for _, g := range s.grants() {
		if g.Requester == requester(n) {
			return g
		}
	}
	s.t.Fatalf("%s has no grant", requester(n))
	return grantView{}
}

func requester(n int) string { return fmt.Sprintf("u%d", n) }

// clean fails when the machine still knows an account.
func (s *crashSite) clean(g grantView) {
	s.t.Helper()
	left := s.sh(fmt.Sprintf(`grep -H -w '%[1]s' /etc/passwd /etc/shadow /etc/group /etc/gshadow /etc/subuid /etc/subgid
ls -d /etc/sudoers.d/*%[1]s* /home/%[1]s /var/mail/%[1]s 2>/dev/null
grep -ls '^Uid:.*[[:space:]]%[2]d[[:space:]]' /proc/[0-9]*/status 2>/dev/null
true`, g.Account, g.UID))
	if left != "" {
		s.t.Errorf("%s is left on the machine:\n%s", g.Account, left)
	}
}

// Every step of a creation and of a removal, stopped in the middle on the
// machine, with runner killed at that moment: the next sweep removes the
// account, and a sweep after the longest time-out closes the job.
func TestKilledAtEveryStepTheAccountIsRemoved(t *testing.T) {
	t.Parallel()
	s := newCrashSite(t)
	request := func(n int) []string {
		return []string{"grant", "request", "admin", "--requester", requester(n), "-o", "json"}
	}
	n := 0
	for _, moment := range []string{"find.before", "useradd.before", "useradd.after", "chpasswd.before", "chpasswd.after", "usermod.before", "usermod.after", "visudo.before", "visudo.after"} {
		n++
		if !s.killAt(moment, request(n)...) {
			s.letGo()
			t.Errorf("a creation has no moment %s", moment)
			continue
		}
		if n%2 == 0 {
			s.letGo() // what the dead runner started goes on while the removal runs
		}
		s.sweepAway(n, moment)
	}
	for _, moment := range []string{"usermod.before", "usermod.after", "find.before", "find.after", "userdel.before", "userdel.after"} {
		n++
		if _, errs, code := s.run(request(n)...); code != 0 {
			t.Fatalf("request before %s: exit %d: %s", moment, code, errs)
		}
		if !s.killAt(moment, "grant", "end", s.grantOf(n).ID) {
			t.Errorf("a removal has no moment %s", moment)
		}
		if n%2 == 0 {
			s.letGo()
		}
		s.sweepAway(n, "removal "+moment)
	}
	s.closed()
}

// The same, killed by the clock instead of at a step: while it stores, connects,
// proves the login, hands the secret over, or has just ended.
func TestKilledAtAnyMomentTheAccountIsRemoved(t *testing.T) {
	t.Parallel()
	s := newCrashSite(t)
	for n := range 24 {
		cmd := s.command("grant", "request", "admin", "--requester", requester(n), "-o", "json")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		kill := time.AfterFunc(time.Duration(8+n*17)*time.Millisecond, func() { _ = cmd.Process.Kill() })
		_ = cmd.Wait()
		kill.Stop()
	}
	for _, g := range s.grants() {
		if g.State != "active" {
			continue
		}
		if _, errs, code := s.run("grant", "end", g.ID); code != 0 {
			t.Errorf("end %s: exit %d: %s", g.ID, code, errs)
		}
	}
	s.closed()
}

// sweepAway runs one sweep and checks that nothing of the n-th grant is left.
func (s *crashSite) sweepAway(n int, moment string) {
	s.t.Helper()
	out, errs, code := s.run("sweep")
	s.letGo()
	if code != 0 && code != 9 {
		s.t.Fatalf("%s: sweep: exit %d\n%s%s", moment, code, out, errs)
	}
	g := s.grantOf(n)
	if g.State != "ending" && g.State != "removed" {
		s.t.Errorf("%s: grant is %s", moment, g.State)
	}
	s.t.Logf("%-24s %s %s", moment, g.Account, g.State)
	s.clean(g)
}

// closed sweeps until every grant is removed, which takes as long as a step of
// a dead worker could have gone on.
func (s *crashSite) closed() {
	s.t.Helper()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	var open []grantView
	for range 60 {
		if _, errs, code := s.run("sweep"); code != 0 && code != 9 {
			s.t.Fatalf("sweep: exit %d: %s", code, errs)
		}
		open = nil
		for _, g := range s.grants() {
			// one that was only stored is cancelled when its time is over
			if g.State != "removed" && g.State != "cancelled" && g.State != "requested" {
				open = append(open, g)
			}
		}
		if len(open) == 0 {
			break
		}
		<-tick.C
	}
	for _, g := range open {
		out, _, _ := s.run("grant", "show", g.ID)
		s.t.Errorf("never removed:\n%s", out)
	}
	for _, g := range s.grants() {
		s.clean(g)
	}
	if left := s.sh("ls /run/runner 2>/dev/null; cut -d: -f1 /etc/passwd | grep ^jit- | grep -v -x -e jitadm -e jitpw -e jittty; true"); left != "" {
		s.t.Errorf("left on the machine:\n%s", left)
	}
}
