package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"runner/engine/grant"
	"runner/engine/store/pgtest"
)

// server is a running runner serve, as another machine would run it: with its own
// copy of the workspace, and only the database and the key in common.
type server struct {
	cmd  *exec.Cmd
	errs syncBuffer
	done chan struct{}
}

var servesAs = regexp.MustCompile(`(?m)(?:serving .* as|serving on as) (n-[a-z0-9]+)`)

// node returns the id under which it works now.
func (s *server) node() string {
	all := servesAs.FindAllStringSubmatch(s.errs.String(), -1)
	if len(all) == 0 {
		return ""
	}
	return all[len(all)-1][1]
}

// onDatabase makes the workspace of s one that shares a database.
func (s *crashSite) onDatabase(url string) {
	s.write("runner.yaml", "schema: runner/v1\nkind: workspace\ndatabase:\n  url: "+url+"\n")
	if out, errs, code := s.run("sweep"); code != 0 { // makes the key
		s.t.Fatalf("sweep: exit %d: %s%s", code, out, errs)
	}
}

// serve starts a server in a copy of the workspace.
func (s *crashSite) another() *server {
	s.t.Helper()
	dir := filepath.Join(s.t.TempDir(), "w")
	if err := os.CopyFS(dir, os.DirFS(s.dir)); err != nil {
		s.t.Fatal(err)
	}
	for path, mode := range map[string]os.FileMode{"state": 0o700, "state/key": 0o600} {
		if err := os.Chmod(filepath.Join(dir, path), mode); err != nil {
			s.t.Fatal(err)
		}
	}
	v := &server{cmd: exec.CommandContext(s.t.Context(), s.bin, "--workspace", dir, "serve"), done: make(chan struct{})}
	v.cmd.Stderr = &v.errs
	if err := v.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	go func() { _ = v.cmd.Wait(); close(v.done) }()
	s.t.Cleanup(func() {
		_ = v.cmd.Process.Signal(syscall.SIGCONT)
		_ = v.cmd.Process.Kill()
		<-v.done
		if s.t.Failed() {
			s.t.Logf("%s:\n%s", v.node(), v.errs.String())
		}
	})
	s.until("a server serves", 20*time.Second, func() bool { return v.node() != "" })
	return v
}

// until waits for something, and returns how long that took.
func (s *crashSite) until(what string, within time.Duration, is func() bool) time.Duration {
	s.t.Helper()
	start := time.Now()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !is() {
		if time.Since(start) > within {
			s.t.Fatalf("not within %v: %s", within, what)
		}
		<-tick.C
	}
	return time.Since(start)
}

// request asks for a grant and leaves its creation to a server.
func (s *crashSite) request(n int) {
	s.t.Helper()
	if out, errs, code := s.run("grant", "request", "admin", "--requester", requester(n), "--no-wait", "-o", "json"); code != 0 {
		s.t.Fatalf("request: exit %d: %s%s", code, out, errs)
	}
}

func (s *crashSite) state(n int) string { return s.grantOf(n).State }

// trap lets the next creation stop in the middle on the device, and returns the
// server that runs it.
func (s *crashSite) trap(n int, moment string, servers []*server) *server {
	s.t.Helper()
	s.sh("rm -f /run/trap/*; : >/run/trap/" + moment + "; chmod 666 /run/trap/*")
	s.request(n)
	s.until("the creation comes to "+moment, 30*time.Second, func() bool { return strings.Contains(s.sh("ls /run/trap"), "hit") })
	out, _, _ := s.run("job", "list", "--state", "running", "-o", "json")
	var jobs []struct {
		Node string `json:"node"`
	}
	if err := json.Unmarshal([]byte(out), &jobs); err != nil || len(jobs) != 1 {
		s.t.Fatalf("%v: %s", err, out)
	}
	for _, v := range servers {
		if v.node() == jobs[0].Node {
			return v
		}
	}
	s.t.Fatalf("the job runs on %s, which is none of the servers", jobs[0].Node)
	return nil
}

// handedOn waits until a grant is no longer created by its worker.
func (s *crashSite) handedOn(n int, what string) {
	s.t.Helper()
	took := s.until("the creation of a "+what+" worker is ended", 10*time.Second, func() bool { return s.state(n) != "creating" })
	s.t.Logf("a %s worker was noticed after %v", what, took.Round(10*time.Millisecond))
}

// Three machines share a database. One is killed in the middle of a creation, then
// one stands still past its lease and is let loose: the others notice within ten
// seconds, remove what was begun, and the one that comes back works on as another.
func TestServersOnSeveralMachinesShareTheWork(t *testing.T) {
	t.Parallel()
	s := newCrashSite(t)
	s.onDatabase(pgtest.Database(t))
	servers := []*server{s.another(), s.another(), s.another()}
	for n := range 4 {
		s.request(n)
	}
	for n := range 4 {
		s.until("a grant is active", 30*time.Second, func() bool { return s.state(n) == "active" })
	}

	killed := s.trap(10, "useradd.after", servers)
	_ = killed.cmd.Process.Kill()
	<-killed.done
	s.handedOn(10, "killed")
	s.letGo()

	frozen := s.trap(11, "useradd.before", servers)
	was := frozen.node()
	_ = frozen.cmd.Process.Signal(syscall.SIGSTOP)
	s.handedOn(11, "frozen")
	_ = frozen.cmd.Process.Signal(syscall.SIGCONT)
	s.letGo()
	s.until("the one that stood still works on as another", 20*time.Second, func() bool { return frozen.node() != was })

	for _, v := range servers { // it is the only one left
		if v != frozen && v != killed {
			_ = v.cmd.Process.Signal(syscall.SIGTERM)
			<-v.done
			if code := v.cmd.ProcessState.ExitCode(); code != 0 {
				t.Errorf("a server that is told to stop exits with %d", code)
			}
		}
	}
	s.request(12)
	s.until("it makes an account", 30*time.Second, func() bool { return s.state(12) == "active" })
	for n := range 4 {
		if _, errs, code := s.run("grant", "end", s.grantOf(n).ID); code != 0 {
			t.Errorf("end: exit %d: %s", code, errs)
		}
	}
	if _, errs, code := s.run("grant", "end", s.grantOf(12).ID); code != 0 {
		t.Errorf("end: exit %d: %s", code, errs)
	}
	s.closed()
	if out, errs, code := s.run("sweep", "-o", "json"); code != 0 || !strings.Contains(out, `"reaped":0`) && !strings.Contains(out, `"reaped": 0`) {
		t.Errorf("sweep: exit %d: %s%s", code, out, errs)
	}
}

// Each device is scanned by one of the machines, and all of them show what it found.
func TestServersOnSeveralMachinesShareTheScans(t *testing.T) {
	t.Parallel()
	s := newCrashSite(t)
	s.onDatabase(pgtest.Database(t))
	yaml, err := os.ReadFile(filepath.Join(s.dir, "runner.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	s.write("runner.yaml", string(yaml)+"scan: {every: 1m}\n")
	stranger := grant.NewID("g", time.Unix(900000000, 0), [10]byte{1})
	s.sh("useradd -c 'runner " + stranger + "' jit-stranger")
	servers := []*server{s.another(), s.another()}
	said := func() (n int) {
		for _, v := range servers {
			n += strings.Count(v.errs.String(), "a scan has findings")
		}
		return n
	}
	s.until("a machine scans", 30*time.Second, func() bool { return said() > 0 })
	out, errs, code := s.run("device", "scan", "--last")
	if code != exitLeft || !strings.Contains(out, "account jit-stranger") || !strings.Contains(out, stranger) {
		t.Errorf("exit %d: %s%s", code, out, errs)
	}
	<-time.After(3 * time.Second) // three turns
	if n := said(); n != 1 {
		t.Errorf("it was scanned %d times in a minute", n)
	}
}
