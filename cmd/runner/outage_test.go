package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// server in s.dir itself, for what it says and how it ends.
func (s *crashSite) serveHere(prefix ...string) *server {
	s.t.Helper()
	argv := append(slices.Clone(prefix), s.bin, "--workspace", s.dir, "serve", "--grace", "1s")
	v := &server{cmd: exec.CommandContext(s.t.Context(), argv[0], argv[1:]...), done: make(chan struct{})}
	v.cmd.Stderr = &v.errs
	if err := v.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	go func() { _ = v.cmd.Wait(); close(v.done) }()
	s.t.Cleanup(func() { _ = v.cmd.Process.Kill(); <-v.done })
	s.until("a server serves", 20*time.Second, func() bool { return v.node() != "" })
	return v
}

// A server whose store is taken away stops and says so, instead of writing into a
// file without a name; and nobody begins with an empty one in its place.
func TestStoreRemovedWhileRunning(t *testing.T) {
	t.Parallel()
	s := newCrashSite(t)
	v := s.serveHere()
	if _, errs, code := s.run("grant", "request", "admin", "--requester", "u1", "-o", "json"); code != 0 {
		t.Fatalf("exit %d: %s", code, errs)
	}
	state, aside := filepath.Join(s.dir, "state"), filepath.Join(s.dir, "aside")
	if err := os.Mkdir(aside, 0o700); err != nil {
		t.Fatal(err)
	}
	move := func(from, to string) {
		for _, f := range []string{"runner.db", "runner.db-wal", "runner.db-shm"} {
			if err := os.Rename(filepath.Join(from, f), filepath.Join(to, f)); err != nil && !os.IsNotExist(err) {
				t.Fatal(err)
			}
		}
	}
	move(state, aside)
	s.until("the server ends", 10*time.Second, func() bool {
		select {
		case <-v.done:
			return true
		default:
			return false
		}
	})
	if code := v.cmd.ProcessState.ExitCode(); code != 1 || !strings.Contains(v.errs.String(), "another file now, or none") {
		t.Errorf("exit %d: %s", code, v.errs.String())
	}
	for _, args := range [][]string{{"sweep"}, {"grant", "list"}, {"grant", "request", "admin", "--requester", "u2"}} {
		if _, errs, code := s.run(args...); code != 1 || !strings.Contains(errs, "runner.db is missing") || !strings.Contains(errs, "restore a backup") {
			t.Errorf("%v: exit %d: %s", args, code, errs)
		}
	}
	move(aside, state)
	if _, errs, code := s.run("grant", "end", s.grantOf(1).ID); code != 0 {
		t.Errorf("end: exit %d: %s", code, errs)
	}
	s.closed()
}

// A disk that is full refuses what is new, keeps what is due, and loses nothing.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	s := newCrashSite(t)
	state := filepath.Join(s.dir, "state")
	if err := os.Mkdir(state, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", state, "tmpfs", 0, "size=6m,mode=700"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(state, 0); err != nil {
			t.Error(err)
		}
	})
	if _, errs, code := s.run("grant", "request", "admin", "--requester", "u1", "-o", "json"); code != 0 {
		t.Fatalf("exit %d: %s", code, errs)
	}
	first := s.grantOf(1)
	fill := filepath.Join(state, "fill")
	out, err := os.Create(fill)
	if err != nil {
		t.Fatal(err)
	}
	zero := make([]byte, 4096)
	for err == nil {
		_, err = out.Write(zero)
	}
	_ = out.Close()
	if _, errs, code := s.run("grant", "request", "admin", "--requester", "u2", "-o", "json"); code != 1 || !strings.Contains(errs, "make room on the disk") {
		t.Errorf("a request: exit %d: %s", code, errs)
	}
	if _, errs, code := s.run("grant", "end", first.ID); code == 0 || !strings.Contains(errs, "disk") {
		t.Errorf("an end: exit %d: %s", code, errs)
	}
	if got := s.sh("cut -d: -f1 /etc/passwd | grep -c '^jit-..........$'; true"); got != "1\n" {
		t.Errorf("%s accounts on the machine", got)
	}
	if err := os.Remove(fill); err != nil {
		t.Fatal(err)
	}
	if _, errs, code := s.run("grant", "end", s.grantOf(1).ID); code != 0 {
		t.Errorf("end: exit %d: %s", code, errs)
	}
	s.closed()
}

// net is a network of its own for a process: one cable to this host, and a proxy at
// this end of it that leads to the machine.
type cable struct {
	t        *testing.T
	ns, here string
}

func (c *cable) ip(args ...string) {
	c.t.Helper()
	if out, err := exec.CommandContext(context.WithoutCancel(c.t.Context()), "ip", args...).CombinedOutput(); err != nil {
		c.t.Fatalf("ip %v: %v: %s", args, err, out)
	}
}

// plugged counts the cables of this process.
var plugged atomic.Int64

// plug makes the network and returns the port of the proxy on its address.
func plug(t *testing.T, target string) (c *cable, address string, port int) {
	t.Helper()
	id := (os.Getpid() + 1237*int(plugged.Add(1))) % 10000
	c = &cable{t: t, ns: fmt.Sprintf("runner-t%d", id), here: fmt.Sprintf("rt%da", id)}
	there := fmt.Sprintf("rt%db", id)
	net4 := fmt.Sprintf("10.%d.%d", 200+id/250%50, id%250)
	c.ip("netns", "add", c.ns)
	t.Cleanup(func() { c.ip("netns", "del", c.ns) }) // and the cable with it
	c.ip("link", "add", c.here, "type", "veth", "peer", "name", there, "netns", c.ns)
	c.ip("addr", "add", net4+".1/30", "dev", c.here)
	c.ip("link", "set", c.here, "up")
	c.ip("-n", c.ns, "addr", "add", net4+".2/30", "dev", there)
	c.ip("-n", c.ns, "link", "set", there, "up")
	c.ip("-n", c.ns, "link", "set", "lo", "up")
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp4", net4+".1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := (&net.Dialer{}).DialContext(t.Context(), "tcp4", target)
			if err != nil {
				_ = in.Close()
				continue
			}
			pass := func(to, from net.Conn) { _, _ = io.Copy(to, from); _ = to.Close(); _ = from.Close() }
			go pass(in, out)
			go pass(out, in)
		}
	}()
	return c, net4 + ".1", l.Addr().(*net.TCPAddr).Port
}

// The cable is pulled in the middle of a creation, and again of a removal, for
// longer than connections live: both end as they have to when it is back.
func TestCablePulled(t *testing.T) {
	t.Parallel()
	s := newCrashSite(t)
	c, address, port := plug(t, s.box.Addr)
	all, err := os.ReadFile(filepath.Join(s.dir, "inventories", "all.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	s.write("inventories/all.yaml", strings.Replace(strings.Replace(string(all), "address: 127.0.0.1", "address: "+address, 1),
		fmt.Sprintf("port: %d", s.box.Port), fmt.Sprintf("port: %d", port), 1))
	v := s.serveHere("ip", "netns", "exec", c.ns)

	s.sh("rm -f /run/trap/*; : >/run/trap/useradd.after; chmod 666 /run/trap/*")
	s.request(1)
	s.until("the creation makes the account", 30*time.Second, func() bool { return strings.Contains(s.sh("ls /run/trap"), "hit") })
	c.ip("link", "set", c.here, "down")
	s.letGo()
	s.until("the creation is given up", 90*time.Second, func() bool { return s.state(1) == "ending" })
	c.ip("link", "set", c.here, "up")
	s.until("the account is gone", 90*time.Second, func() bool { return !strings.Contains(s.sh("cat /etc/passwd"), s.grantOf(1).Account) })

	if _, errs, code := s.run("grant", "request", "admin", "--requester", requester(2), "--for", "1m", "--no-wait", "-o", "json"); code != 0 {
		t.Fatalf("exit %d: %s", code, errs)
	}
	s.until("the next one is made", 90*time.Second, func() bool { return s.state(2) == "active" })
	s.sh("rm -f /run/trap/*; : >/run/trap/userdel.before; chmod 666 /run/trap/*")
	s.until("it expires, and the removal comes to the account", 120*time.Second, func() bool { return strings.Contains(s.sh("ls /run/trap"), "hit") })
	c.ip("link", "set", c.here, "down")
	s.until("the removal has lost its connection", 90*time.Second, func() bool {
		out, _, _ := s.run("grant", "show", s.grantOf(2).ID)
		return strings.Contains(out, "lost") || strings.Contains(out, "reach")
	})
	s.letGo()
	c.ip("link", "set", c.here, "up")
	for n := 1; n <= 2; n++ {
		s.until("it is removed", 150*time.Second, func() bool { return s.state(n) == "removed" })
		s.clean(s.grantOf(n))
	}
	if err := v.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Error(err)
	}
	<-v.done
}
