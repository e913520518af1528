package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// sh runs a script as root on the machine.
func (s *site) sh(t *testing.T, script string) string {
	t.Helper()
	out, err := s.box.Shell(t.Context(), script)
	if err != nil {
		t.Fatalf("%s: %v", script, err)
	}
	return out
}

// lose has the site forget everything, as when the disk of its state is lost.
func (s *site) lose(t *testing.T) {
	t.Helper()
	if err := os.Rename(filepath.Join(s.dir, "state"), filepath.Join(s.dir, "lost")); err != nil {
		t.Fatal(err)
	}
}

// What an operator does about accounts that nobody knows any more.
func TestFindingsOfAScanAreDecidedAbout(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	ana := must[secretJSON](t, s, 0, "ana", "grant", "request", "web-admin", "--for", "1h")
	bo := must[secretJSON](t, s, 0, "bo", "grant", "request", "web-admin", "--for", "2h")
	if v := must[[]scanJSON](t, s, 0, "root", "device", "scan", "web"); len(v) != 1 || v[0].OK != 2 || v[0].Marked < 2 || !v[0].Reached || len(v[0].Findings) != 0 {
		t.Fatalf("a scan of what is as it should be: %+v", v)
	}
	s.sh(t, "gpasswd -a "+ana.Account+" adm")
	v := must[[]scanJSON](t, s, exitLeft, "root", "device", "scan", "w*")
	if f := v[0].Findings; len(f) != 1 || f[0].What != "changed" || f[0].Grant != ana.Grant || f[0].Object != "account "+ana.Account || strings.Join(f[0].Why, "") != "somebody put it into adm" {
		t.Fatalf("%+v", v)
	}
	s.lose(t)
	stdout, stderr, code := s.as(t, "root", "device", "scan", "web")
	if code != exitLeft || strings.Count(stdout, "unknown") != 2 || !strings.Contains(stdout, ana.Grant) || !strings.Contains(stderr, "hint: runner device adopt web jit-") || !strings.Contains(stderr, "1 device scanned") {
		t.Fatalf("exit %d\n%s%s", code, stdout, stderr)
	}

	for _, verb := range []string{"adopt", "quarantine", "ignore"} {
		args := []string{"device", verb, "web", ana.Account, "--reason", "x"}
		if verb == "ignore" {
			args = append(args, "--for", "1h")
		}
		if _, stderr, code := s.as(t, "bo", args...); code != exitDenied {
			t.Errorf("bo may %s: exit %d %s", verb, code, stderr)
		}
	}
	if _, stderr, code := s.as(t, "root", "device", "adopt", "web", "root"); code != exitUsage || !strings.Contains(stderr, `does not find "root"`) {
		t.Errorf("exit %d %s", code, stderr)
	}
	if _, stderr, code := s.as(t, "root", "device", "ignore", "web", bo.Account, "--for", "1h"); code != exitUsage || !strings.Contains(stderr, "--reason") {
		t.Errorf("exit %d %s", code, stderr)
	}

	// One is theirs, and ignored; it comes back when the time is over.
	if stdout, stderr, code := s.as(t, "root", "device", "ignore", "web", bo.Account, "--for", "1h", "--reason", "the other team's"); code != 0 || !strings.Contains(stdout, "is ignored until") {
		t.Fatalf("exit %d %s%s", code, stdout, stderr)
	}
	stdout, stderr, _ = s.as(t, "root", "device", "scan", "web")
	if strings.Contains(stdout, bo.Account) || !strings.Contains(stderr, "1 finding, 1 ignored") {
		t.Fatalf("%s%s", stdout, stderr)
	}
	if stdout, _, _ = s.as(t, "root", "device", "scan", "web", "--all"); !strings.Contains(stdout, "the other team's") {
		t.Fatalf("%s", stdout)
	}

	// The other is locked now, with its sessions, and removed later.
	q := must[grantJSON](t, s, 0, "root", "device", "quarantine", "web", ana.Grant[:12], "--for", "24h", "--reason", "nobody knows it")
	if q.ID != ana.Grant || q.State != "active" || q.Origin != "quarantined" || q.NoAccess.IsZero() || time.Until(q.Expires) < 23*time.Hour || q.Requester != "(unknown)" {
		t.Fatalf("%+v", q)
	}
	refused(t, s.login(t, ana.Account, ana.Password, ""))
	if !s.knows(t, ana.Account) {
		t.Fatal("it was deleted at once")
	}
	if _, stderr, code := s.as(t, "root", "device", "adopt", "web", ana.Account); code != exitUsage || !strings.Contains(stderr, "does not find") {
		t.Errorf("what is known is adopted: exit %d %s", code, stderr)
	}
	must[receiptJSON](t, s, 0, "root", "grant", "revoke", ana.Grant)
	if s.knows(t, ana.Account) {
		t.Fatal("it is still there")
	}

	// What was ignored can be adopted, and is removed when its mark says; until then
	// it is left alone.
	c := must[grantJSON](t, s, 0, "root", "device", "adopt", "web", bo.Account)
	if c.State != "active" || c.Origin != "adopted" || c.Expires.Before(bo.Expires) {
		t.Fatalf("%+v, was %+v", c, bo)
	}
	if err := s.login(t, bo.Account, bo.Password, ""); err != nil {
		t.Fatalf("the adopted account does not work any more: %v", err)
	}
	must[[]scanJSON](t, s, 0, "root", "device", "scan", "web")
	must[sweepJSON](t, s, 0, "root", "sweep")
	must[receiptJSON](t, s, 0, "root", "grant", "end", bo.Grant)
	if s.knows(t, bo.Account) {
		t.Fatal("it is still there")
	}
	if _, stderr, code := s.as(t, "root", "device", "scan", "nowhere"); code != exitUsage || !strings.Contains(stderr, `no device "nowhere"`) {
		t.Errorf("exit %d %s", code, stderr)
	}
}

// A store that was lost asks before it takes over what devices say, and a device
// that is gone is retired by a person.
func TestALostStoreAsksBeforeItIsRebuilt(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	ana := must[secretJSON](t, s, 0, "ana", "grant", "request", "web-admin", "--for", "1h")
	must[rebuildJSON](t, s, 0, "root", "device", "rebuild")
	s.lose(t)
	stdout, stderr, code := s.as(t, "root", "device", "rebuild")
	if code != exitFuse || !strings.Contains(stdout, ana.Account) || !strings.Contains(stderr, "runner: the fuse stopped this: 1 account would get a removal, none of them at once, and this store knows of no grant") || !strings.Contains(stderr, "hint: look at the list; --yes-remove 1 says") {
		t.Fatalf("exit %d\n%s%s", code, stdout, stderr)
	}
	if v := must[rebuildJSON](t, s, exitFuse, "root", "device", "rebuild", "--yes-remove", "2"); v.Fuse == nil || v.Fuse.Count != 1 || len(v.Fuse.WouldTake) != 1 || len(v.Taken) != 0 {
		t.Fatalf("%+v", v)
	}
	if _, stderr, code := s.as(t, "ana", "device", "rebuild", "--yes-remove", "1"); code != exitDenied {
		t.Fatalf("exit %d %s", code, stderr)
	}
	if v := must[rebuildJSON](t, s, 0, "root", "device", "rebuild", "web", "--yes-remove", "1", "--reason", "disk lost"); len(v.Taken) != 1 || v.Taken[0].ID != ana.Grant || v.Taken[0].State != "active" || v.Taken[0].Origin != "rebuilt" || v.Taken[0].Reason != "disk lost" {
		t.Fatalf("%+v", v)
	}
	must[[]scanJSON](t, s, 0, "root", "device", "scan", "*")

	if _, stderr, code := s.as(t, "root", "device", "retire", "web", "--reason", "scrapped"); code != exitUsage || !strings.Contains(stderr, "device web is not gone: 127.0.0.1") {
		t.Fatalf("exit %d %s", code, stderr)
	}
	if err := s.box.Stop(); err != nil {
		t.Fatal(err)
	}
	stdout, stderr, code = s.as(t, "root", "device", "retire", "web", "--reason", "scrapped")
	if code != 0 || !strings.Contains(stdout, "is gone: retired by root: scrapped; not reached: ") {
		t.Fatalf("exit %d\n%s%s", code, stdout, stderr)
	}
	if v := must[rebuildJSON](t, s, exitUnreached, "root", "device", "rebuild"); len(v.Unreached) != 1 {
		t.Fatalf("%+v", v)
	}
	must[sweepJSON](t, s, 0, "root", "sweep")
}
