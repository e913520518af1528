package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"runner/engine/lab"
	"runner/engine/lab/labtest"
)

// newLaunchSite is a workspace with the built program and a machine.
func newLaunchSite(t *testing.T) *crashSite {
	t.Helper()
	bin, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	s := &crashSite{t: t, bin: bin, dir: t.TempDir(), box: labtest.StartT(t, lab.Config{Name: "box"})}
	s.sh("groupadd -f ops")
	s.write("runner.yaml", "schema: runner/v1\nkind: workspace\n")
	s.write("inventories/all.yaml", fmt.Sprintf(crashInventory, s.box.Port, s.box.HostKey, s.box.KeyFile()))
	return s
}

// launch opens a session on a terminal and waits for its prompt.
func (s *crashSite) launch(args ...string) (*terminal, *exec.Cmd) {
	s.t.Helper()
	k := newTerminal(s.t, 100, 30)
	cmd := s.command(append([]string{"launch", "admin", "--requester", requester(0)}, args...)...)
	cmd.Env = append(cmd.Env, "TERM=xterm")
	k.start(cmd)
	k.sees("$ ")
	return k, cmd
}

// exitCode waits for the end of a program.
func exitCode(cmd *exec.Cmd) int {
	_ = cmd.Wait()
	return cmd.ProcessState.ExitCode()
}

// logins counts how often the machine let an account in.
func (s *crashSite) logins(account string) int {
	s.t.Helper()
	text, err := os.ReadFile(filepath.Join(s.box.Dir, "log"))
	if err != nil {
		s.t.Fatal(err)
	}
	return strings.Count(string(text), "for "+account+" from")
}

func TestASessionOnATerminal(t *testing.T) {
	t.Parallel()
	s := newLaunchSite(t)
	k, cmd := s.launch()
	g := s.grantOf(0)
	k.types("stty size\r")
	k.sees("30 100")
	k.resize(120, 40)
	k.types("sleep 0.1; stty size\r")
	k.sees("40 120")
	k.types("sleep 1000; echo interrupted\r")
	k.sees("interrupted")
	s.until("the program runs", 30*time.Second, func() bool { return s.sh("pgrep -x sleep || true") != "" }) // bash itself lets a ^C pass
	k.types("\x03")
	k.sees("$ ")
	k.types("echo st''ill here; exit 23\r")
	k.sees("still here")
	k.sees("account " + g.Account + " is removed from box")
	if code := exitCode(cmd); code != 23 {
		t.Errorf("exit code %d, want that of the shell", code)
	}
	s.clean(g)
	if n := s.logins(g.Account); n != 1 {
		t.Errorf("the machine saw %d logins of the account, want the session's only", n)
	}
	if strings.Contains(k.all(), "PRIVATE") {
		t.Error("the key was shown")
	}
}

// gone waits until the account is not on the machine any more.
func (s *crashSite) gone(g grantView, within time.Duration) {
	s.t.Helper()
	from := time.Now()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for s.sh("getent passwd "+g.Account+" || true") != "" {
		<-tick.C
		if time.Since(from) > 2*within {
			break
		}
	}
	took := time.Since(from)
	s.t.Logf("gone after %s", took.Round(10*time.Millisecond))
	if took > within {
		out, _, _ := s.run("grant", "show", g.ID)
		s.t.Fatalf("%s is there after %s:\n%s", g.Account, took, out)
	}
	s.clean(g)
}

// serve runs runner serve until the returned function is called.
func (s *crashSite) serve() (stop func()) {
	s.t.Helper()
	cmd := s.command("serve")
	var errs bytes.Buffer
	cmd.Stderr = &errs
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	return func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
		if s.t.Failed() {
			s.t.Logf("serve:\n%s", errs.String())
		}
	}
}

func kill(t *testing.T, cmd *exec.Cmd, sig syscall.Signal) {
	t.Helper()
	if err := cmd.Process.Signal(sig); err != nil {
		t.Fatal(err)
	}
}

func TestAClientThatIsKilledTakesTheAccountWithIt(t *testing.T) {
	t.Parallel()
	s := newLaunchSite(t)
	stop := s.serve()
	_, cmd := s.launch()
	g := s.grantOf(0)
	kill(t, cmd, syscall.SIGKILL)
	_ = cmd.Wait()
	s.gone(g, 10*time.Second)

	// serve stops in between; without it the next sweep does the same
	var k *terminal
	k, cmd = s.launch()
	stop()
	k.types("echo to be re''membered\r")
	k.sees("to be remembered")
	list, _, _ := s.run("session", "list", "-o", "json")
	play := func() string {
		out, errs, code := s.run("session", "play", between(list, `"id": "`, `"`)) // the newest
		if code != 0 && code != 1 {
			t.Errorf("session play: exit %d: %s", code, errs)
		}
		return out
	}
	for !strings.Contains(play(), "to be remembered") && t.Context().Err() == nil { // it is stored a moment later
		k.types("echo a''gain\r")
		k.sees("again")
	}
	g = s.grantOf(0)
	kill(t, cmd, syscall.SIGKILL)
	_ = cmd.Wait()
	if out, errs, code := s.run("sweep"); code != 0 || !strings.Contains(out, "removed 1") {
		t.Fatalf("sweep: exit %d\n%s%s", code, out, errs)
	}
	s.gone(g, time.Second)
	out, _, _ := s.run("grant", "show", g.ID)
	if !strings.Contains(out, "session.ended") || !strings.Contains(out, "client_gone") {
		t.Errorf("the audit does not say why:\n%s", out)
	}
	if out := play(); !strings.Contains(out, "to be remembered") {
		t.Errorf("the recording does not play to where it was cut:\n%s", out)
	}
}

func TestAClientThatSaysNothingIsTakenForGone(t *testing.T) {
	t.Parallel()
	s := newLaunchSite(t)
	defer s.serve()()
	k, cmd := s.launch()
	g := s.grantOf(0)
	kill(t, cmd, syscall.SIGSTOP)
	s.gone(g, 20*time.Second)
	kill(t, cmd, syscall.SIGCONT)
	if code := exitCode(cmd); code != 255 {
		t.Errorf("exit code %d, want 255:\n%s", code, k.all())
	}
}

func TestAConnectionThatIsLostEndsTheGrant(t *testing.T) {
	t.Parallel()
	s := newLaunchSite(t)
	k, cmd := s.launch()
	g := s.grantOf(0)
	s.sh("pkill -KILL -f '^sshd: " + g.Account + "'")
	k.sees("the connection was lost")
	k.sees("is removed from box")
	if code := exitCode(cmd); code != 255 {
		t.Errorf("exit code %d, want 255", code)
	}
	s.gone(g, time.Second)
}

func TestASessionThatIsToldToStopEndsTheGrant(t *testing.T) {
	t.Parallel()
	s := newLaunchSite(t)
	k, cmd := s.launch()
	g := s.grantOf(0)
	kill(t, cmd, syscall.SIGHUP) // as when its terminal is closed
	k.sees("is removed from box")
	if code := exitCode(cmd); code != 130 {
		t.Errorf("exit code %d, want 130", code)
	}
	s.gone(g, time.Second)
}

func TestASessionEndsWithItsGrant(t *testing.T) {
	t.Parallel()
	s := newLaunchSite(t)
	k, cmd := s.launch()
	g := s.grantOf(0)
	if _, errs, code := s.run("grant", "end", g.ID); code != 0 {
		t.Fatalf("grant end: exit %d: %s", code, errs)
	}
	k.sees("the session is over")
	if code := exitCode(cmd); code != 255 {
		t.Errorf("exit code %d, want 255:\n%s", code, k.all())
	}
	s.gone(g, time.Second)
}

// Killed by the clock: while it is requested, made, logged in to, or used. Nobody
// serves; the sweeps after it find every one of them.
func TestALaunchThatIsKilledAtAnyMomentLeavesNothing(t *testing.T) {
	t.Parallel()
	s := newCrashSite(t)
	for n := range 12 {
		cmd := s.command("launch", "admin", "--requester", requester(n))
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		end := time.AfterFunc(time.Duration(20+n*55)*time.Millisecond, func() { _ = cmd.Process.Kill() })
		_ = cmd.Wait()
		end.Stop()
		_ = in.Close()
	}
	if _, errs, code := s.run("sweep"); code != 0 && code != 9 {
		t.Fatalf("sweep: exit %d: %s", code, errs)
	}
	for _, g := range s.grants() {
		if g.State == "active" || g.State == "creating" {
			t.Errorf("%s of %s is still %s after a sweep", g.ID, g.Requester, g.State)
		}
	}
	if out, _, _ := s.run("session", "list", "--state", "open"); strings.Contains(out, " open ") {
		t.Errorf("sessions that nobody has are open:\n%s", out)
	}
	s.closed()
}
