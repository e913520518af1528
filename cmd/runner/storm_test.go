package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"runner/engine/lab"
	"runner/engine/lab/labtest"
	"runner/engine/store/pgtest"
)

// storm is a number of real processes that ask for, end and serve grants on real
// machines, and are killed while they do.
type storm struct {
	t     *testing.T
	bin   string
	dirs  []string // workspaces: one, or one for each machine that runner runs on
	boxes []*lab.Machine
	rng   *rand.Rand
	want  int    // kills
	crash func() // what else happens once, in the middle; nil: nothing

	mu      sync.Mutex
	servers map[int]*exec.Cmd // by number
	kills   int
	failed  map[string]int // what clients said that were not killed

	asked atomic.Int64
	work  sync.WaitGroup
}

const stormDevice = `---
schema: runner/v1
kind: device
name: %[1]s
address: 127.0.0.1
port: %[2]d
platform: linux
inventory: Storm
host_keys: ["%[3]s"]
---
schema: runner/v1
kind: credential
name: %[1]s-admin
device: %[1]s
authentication: {user: jitadm, secret_from: {file: %[4]s, kind: private_key}}
jit: {enabled: true, create: linux-user, delete: linux-user}
params: {sudo: "ALL=(ALL) NOPASSWD: /usr/bin/id", groups: [ops]}
`

// nothingElse is all that a grant could leave on a machine, and what was there before.
const nothingElse = `for f in passwd group shadow gshadow subuid subgid; do echo "== $f"; sort /etc/$f; done
echo == files; find /etc/sudoers.d /home /var/mail /var/spool /run/runner -mindepth 1 -maxdepth 3 2>/dev/null | sort
echo == processes; for p in /proc/[0-9]*; do while read -r k v r; do case $k in Uid:) [ "$v" -lt 60000 ] || echo "uid $v";; esac; done <$p/status; done 2>/dev/null; true`

// newStorm makes machines and workspaces, which have these settings.
func newStorm(t *testing.T, workspaces int, settings string) *storm {
	t.Helper()
	bin, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv("STORM_SEED"); text != "" {
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatalf("STORM_SEED: %v", err)
		}
	}
	t.Logf("STORM_SEED=%d", seed)
	s := &storm{t: t, bin: bin, rng: rand.New(rand.NewPCG(seed, 1)), want: 30, servers: map[int]*exec.Cmd{}, failed: map[string]int{}}
	if text := os.Getenv("STORM_KILLS"); text != "" {
		if s.want, err = strconv.Atoi(text); err != nil {
			t.Fatalf("STORM_KILLS: %v", err)
		}
	}
	docs := "schema: runner/v1\nkind: inventory\nname: Storm\ntransport: ssh\nmethods: [publickey]\n"
	for _, name := range []string{"box", "crate"} {
		m := labtest.StartT(t, lab.Config{Name: name})
		// what looks like ours, and is not
		if _, err := m.Shell(t.Context(), "groupadd -f ops; useradd -m -c 'runner grant' jit-mmmmmmmmmm; gpasswd -a jit-mmmmmmmmmm ops"); err != nil {
			t.Fatal(err)
		}
		s.boxes = append(s.boxes, m)
		docs += fmt.Sprintf(stormDevice, name, m.Port, m.HostKey, m.KeyFile())
	}
	for i := range workspaces {
		dir := filepath.Join(t.TempDir(), strconv.Itoa(i))
		s.dirs = append(s.dirs, dir)
		s.write(dir, "runner.yaml", "schema: runner/v1\nkind: workspace\n"+settings)
		s.write(dir, "inventories/all.yaml", docs)
		for _, kind := range []string{"create", "delete"} { // with short time-outs: what a dead worker left is looked at again after the longest
			text, err := os.ReadFile(filepath.Join("..", "..", "templates", kind, "linux-user.yaml"))
			if err != nil {
				t.Fatal(err)
			}
			s.write(dir, "templates/"+kind+"/linux-user.yaml", strings.NewReplacer("timeout: 30s", "timeout: 10s", "timeout: 60s", "timeout: 10s").Replace(string(text)))
		}
	}
	return s
}

func (s *storm) write(dir, name, text string) {
	s.t.Helper()
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		s.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

func (s *storm) draw(n int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rng.IntN(n)
}

func (s *storm) command(i int, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(s.t.Context(), s.bin, append([]string{"--workspace", s.dirs[i%len(s.dirs)]}, args...)...)
	cmd.Env = append(os.Environ(), "NO_COLOR=1")
	return cmd
}

// serve starts server i.
func (s *storm) serve(i int) {
	cmd := s.command(i, "serve", "--grace", "5s")
	if err := cmd.Start(); err != nil {
		s.t.Error(err)
		return
	}
	s.mu.Lock()
	s.servers[i] = cmd
	s.mu.Unlock()
}

// kill ends a process the hard way, and counts it.
func (s *storm) kill(cmd *exec.Cmd) {
	if cmd.Process.Signal(syscall.SIGKILL) == nil {
		s.mu.Lock()
		s.kills++
		s.mu.Unlock()
	}
}

func (s *storm) killed() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.kills
}

// client runs a command, which is killed after some time or not, and returns what
// it printed when it ended by itself.
func (s *storm) client(args ...string) []byte {
	var out, errs bytes.Buffer
	cmd := s.command(s.draw(len(s.dirs)), args...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Start(); err != nil {
		s.t.Error(err)
		return nil
	}
	if s.draw(3) == 0 {
		t := time.AfterFunc(time.Duration(s.draw(900))*time.Millisecond, func() { s.kill(cmd) })
		defer t.Stop()
	}
	if cmd.Wait() != nil && cmd.ProcessState.Exited() {
		s.mu.Lock()
		s.failed[fmt.Sprintf("exit %d: %s", cmd.ProcessState.ExitCode(), errs.String()[max(0, errs.Len()-200):])]++
		s.mu.Unlock()
	}
	return out.Bytes()
}

// person asks for a grant, and ends it soon, later or never.
func (s *storm) person() {
	n := s.asked.Add(1)
	who, on := fmt.Sprintf("p%d", n), []string{"box-admin", "crate-admin"}[n%2]
	var g struct {
		Grant grantView `json:"grant"`
	}
	out := s.client("grant", "request", on, "--requester", who, "--for", "1m", "-o", "json")
	if json.Unmarshal(out, &g) != nil || g.Grant.ID == "" || s.draw(4) == 0 {
		return
	}
	s.client("grant", "end", g.Grant.ID)
}

// rage lets people and servers work and kills them until it is enough.
func (s *storm) rage(servers int) {
	for i := range servers {
		s.serve(i)
	}
	slots := make(chan struct{}, 4)
	tick := time.NewTicker(120 * time.Millisecond)
	defer tick.Stop()
	frozen := false
	for s.killed() < s.want || s.asked.Load() < int64(s.want) { // on a slow machine, kills come faster than requests
		<-tick.C
		select {
		case slots <- struct{}{}:
			s.work.Go(func() {
				defer func() { <-slots }()
				s.person()
			})
		default:
		}
		i := s.draw(servers)
		s.mu.Lock()
		server := s.servers[i]
		s.mu.Unlock()
		switch {
		case !frozen && s.killed() >= s.want/3: // one past its lease
			frozen = true
			s.freeze(server)
		case s.crash != nil && s.killed() >= s.want*2/3:
			s.crash()
			s.crash = nil
		case s.draw(8) == 0:
			s.kill(server)
			_ = server.Wait()
			s.serve(i)
		}
	}
	s.work.Wait()
}

// freeze stops a process for longer than any lease and lets it loose again.
func (s *storm) freeze(cmd *exec.Cmd) {
	if err := cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		s.t.Errorf("freeze: %v", err)
		return
	}
	s.work.Go(func() {
		<-time.After(8 * time.Second)
		_ = cmd.Process.Signal(syscall.SIGCONT)
	})
}

// settle waits until the servers have brought every grant to its end.
func (s *storm) settle() map[string]int {
	s.t.Helper()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	var states map[string]int
	var open []string
	for range 240 {
		<-tick.C
		states, open = map[string]int{}, nil
		for _, g := range s.grants() {
			states[g.State]++
			if g.State != "removed" && g.State != "cancelled" {
				open = append(open, g.ID)
			}
		}
		if len(open) == 0 {
			return states
		}
	}
	for _, id := range open[:min(3, len(open))] {
		out, _ := s.command(0, "grant", "show", id).CombinedOutput()
		s.t.Errorf("not at its end:\n%s", out)
	}
	return states
}

func (s *storm) grants() []grantView {
	s.t.Helper()
	out, err := s.command(0, "grant", "list", "--all", "--limit", "10000", "-o", "json").Output()
	if err != nil {
		s.t.Fatalf("grant list: %v", err)
	}
	var l []grantView
	if err := json.Unmarshal(out, &l); err != nil {
		s.t.Fatalf("%v: %s", err, out)
	}
	return l
}

func (s *storm) look() map[string]string {
	s.t.Helper()
	out := map[string]string{}
	for _, m := range s.boxes {
		text, err := m.Shell(s.t.Context(), nothingElse)
		if err != nil {
			s.t.Fatal(err)
		}
		out[m.Name] = text
	}
	return out
}

// run is a whole storm: afterwards the machines are what they were before.
func (s *storm) run(servers int) {
	s.t.Helper()
	before := s.look()
	start := time.Now()
	s.rage(servers)
	raged := time.Since(start)
	states := s.settle()
	for _, cmd := range maps.All(s.servers) {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		if err := cmd.Wait(); err != nil {
			s.t.Errorf("a server that was told to stop: %v", err)
		}
	}
	for name, after := range s.look() {
		if after != before[name] {
			s.t.Errorf("%s is not as it was:\n%s", name, changedLines(before[name], after))
		}
	}
	if n := states["removed"]; n < s.want/2 {
		s.t.Errorf("only %d grants were made and removed; clients said: %v", n, s.failed)
	}
	s.t.Logf("%d kills in %s, %d requests, grants %v; settled %s later; clients that were not killed said %v", s.kills, raged.Round(time.Second), s.asked.Load(), states, (time.Since(start) - raged).Round(time.Second), s.failed)
}

// changedLines lists the lines that only one of two texts has.
func changedLines(before, after string) string {
	var out strings.Builder
	have := map[string]bool{}
	for l := range strings.SplitSeq(before, "\n") {
		have[l] = true
	}
	is := map[string]bool{}
	for l := range strings.SplitSeq(after, "\n") {
		if is[l] = true; !have[l] {
			out.WriteString("+ " + l + "\n")
		}
	}
	for l := range have {
		if !is[l] {
			out.WriteString("- " + l + "\n")
		}
	}
	return out.String()
}

// Real processes on one machine, killed at random moments, leave nothing behind.
// STORM_KILLS says how many; STORM_SEED gives the same dice again.
func TestKilledProcessesLeaveNothing(t *testing.T) {
	t.Parallel()
	newStorm(t, 1, "").run(2)
}

// The same on three machines that share a database, which is restarted, too.
func TestKilledProcessesOfSeveralMachinesLeaveNothing(t *testing.T) {
	t.Parallel()
	db, err := pgtest.Start(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Stop(); err != nil {
			t.Error(err)
		}
	})
	url, err := db.Database(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s := newStorm(t, 3, "database:\n  url: "+url+"\n")
	s.share()
	s.crash = func() {
		db.Crash()
		if err := db.Resume(t.Context()); err != nil {
			t.Error(err)
		}
	}
	s.run(3)
}

// share gives all workspaces the key of the first.
func (s *storm) share() {
	s.t.Helper()
	if out, err := s.command(0, "sweep").CombinedOutput(); err != nil { // makes the key
		s.t.Fatalf("sweep: %v: %s", err, out)
	}
	key, err := os.ReadFile(filepath.Join(s.dirs[0], "state", "key"))
	if err != nil {
		s.t.Fatal(err)
	}
	for _, dir := range s.dirs[1:] {
		s.write(dir, "state/key", string(key))
	}
}
