package main

import (
	"strings"
	"testing"
	"time"

	"runner/engine/store/pgtest"
)

// The database server dies, its standby is promoted: a serve goes on within seconds,
// without being started again, and nothing is left in the end.
func TestServeGoesOnWithTheStandby(t *testing.T) {
	t.Parallel()
	s := newCrashSite(t)
	first, err := pgtest.Start(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	stop := func(server *pgtest.Server) {
		if err := server.Stop(); err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(func() { stop(first) })
	if err := first.SQL(t.Context(), `CREATE DATABASE shared`); err != nil {
		t.Fatal(err)
	}
	second, err := first.Follow(t.Context(), true)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(second) })
	url := first.Both(second, "shared")
	s.onDatabase(url)
	db, v := s.opened(url), s.another()
	if strings.Contains(v.errs.String(), "waits for no standby") {
		t.Errorf("it warns of a server that waits for its standby: %s", v.errs.String())
	}
	s.request(1)
	s.until("a grant is active", 30*time.Second, func() bool { return s.state(1) == "active" })
	s.sh("rm -f /run/trap/*; : >/run/trap/useradd.after; chmod 666 /run/trap/*")
	s.request(2)
	s.until("another one is being made", 30*time.Second, func() bool { return strings.Contains(s.sh("ls /run/trap"), "hit") })
	first.Crash()
	if err := second.SQL(t.Context(), `SELECT pg_promote()`); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	s.letGo()
	s.request(3)
	s.until("a grant is made after the promotion", 30*time.Second, func() bool { return s.state(3) == "active" })
	t.Logf("it went on after %v", time.Since(start).Round(10*time.Millisecond))
	for _, n := range []int{1, 2, 3} {
		_, errs, code := s.run("grant", "end", s.grantOf(n).ID)
		gone := n == 2 && s.state(n) == "removed" // what was being made is removed without being told
		if code != 0 && code != exitLeft && !gone {
			t.Errorf("end: exit %d: %s", code, errs)
		}
	}
	s.closed()
	if err := db.VerifyAudit(t.Context()); err != nil {
		t.Error(err)
	}
}
