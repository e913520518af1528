package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// serving runs serve until the test ends or stop is called, and returns what it said.
func (s *site) serving(t *testing.T) (stop func() string) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	said := make(chan string, 1)
	go func() {
		_, stderr, _ := s.until(t, ctx, "root", false, "serve", "--grace", "1s")
		said <- stderr
	}()
	return func() string { cancel(); return <-said }
}

// becomes waits for something that serve does.
func becomes(t *testing.T, what string, is func() bool) {
	t.Helper()
	for began := time.Now(); !is(); <-time.After(200 * time.Millisecond) {
		if time.Since(began) > 30*time.Second {
			t.Fatalf("not within 30 s: %s", what)
		}
	}
}

// serve scans by itself. What it finds is seen by whoever looks at anything, until
// somebody has decided about it.
func TestServeScansAndEverybodySeesWhatItFound(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	ana := must[secretJSON](t, s, 0, "ana", "grant", "request", "web-admin", "--for", "1h")
	s.lose(t)
	yaml, err := os.ReadFile(filepath.Join(s.dir, "runner.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if v := must[[]scanJSON](t, s, 0, "root", "device", "scan", "--last"); len(v) != 1 || !v[0].At.IsZero() || v[0].Reached {
		t.Fatalf("before the first scan: %+v", v)
	}
	s.write(t, "runner.yaml", string(yaml)+"scan: {every: 1m, devices: ['w*']}\n")
	stop := s.serving(t)
	var v []scanJSON
	becomes(t, "the first scan", func() bool {
		stdout, _, _ := s.as(t, "root", "device", "scan", "--last")
		return strings.Contains(stdout, ana.Account)
	})
	if said := stop(); !strings.Contains(said, "a scan has findings") || !strings.Contains(said, "account "+ana.Account) {
		t.Errorf("serve said\n%s", said)
	}
	if v = must[[]scanJSON](t, s, exitLeft, "root", "device", "scan", "--last", "web"); v[0].Findings[0].What != "unknown" || v[0].At.IsZero() || v[0].Credential != "web-admin" {
		t.Fatalf("%+v", v)
	}
	stdout, stderr, code := s.as(t, "bo", "grant", "list")
	if code != 0 || !strings.Contains(stdout, "1 finding of scans:\n  unknown account "+ana.Account+" on web, seen ") || !strings.Contains(stdout, "runner device scan --last") {
		t.Errorf("grant list: exit %d\n%s%s", code, stdout, stderr)
	}
	if w := must[sweepJSON](t, s, exitLeft, "root", "sweep"); w.Found != 1 || w.Overdue != 0 {
		t.Errorf("sweep: %+v", w)
	}
	if stdout, _, _ := s.as(t, "root", "sweep"); !strings.Contains(stdout, "1 finding of scans about which nothing was done: runner device scan --last") {
		t.Errorf("sweep: %s", stdout)
	}
	if st := must[statusJSON](t, s, exitLeft, "root", "status"); st.Findings != 1 || st.Scanned != 1 || st.Failed != 0 || st.Oldest.IsZero() || st.Served.IsZero() {
		t.Errorf("status: %+v", st)
	}
	must[grantJSON](t, s, 0, "root", "device", "adopt", "web", ana.Account)
	must[sweepJSON](t, s, 0, "root", "sweep")
	if stdout, _, _ := s.as(t, "bo", "job", "list"); strings.Contains(stdout, "finding") {
		t.Errorf("after it was adopted: %s", stdout)
	}
	if v = must[[]scanJSON](t, s, 0, "root", "device", "scan", "--last"); len(v[0].Findings) != 0 || !v[0].Reached {
		t.Errorf("after it was adopted: %+v", v)
	}
	// Nothing is scanned when runner.yaml says so.
	s.write(t, "runner.yaml", string(yaml)+"scan: {every: never}\n")
	stop = s.serving(t)
	<-time.After(1500 * time.Millisecond)
	if said := stop(); strings.Contains(said, "scan") {
		t.Errorf("serve said\n%s", said)
	}
}
