// Package labtest starts lab machines for tests and ends them with the test. It is
// apart from lab so that programs do not link package testing; it never skips: a
// host that cannot run machines fails the test and says why.
package labtest

import (
	"testing"

	"runner/engine/lab"
)

// StartT starts a machine that ends with the test. It fails the test when the host
// lacks what a machine needs, and shows the machine's log when the test has failed.
func StartT(tb testing.TB, cfg lab.Config) *lab.Machine {
	tb.Helper()
	if cfg.Name == "" {
		cfg.Name = "box"
	}
	m, err := lab.Start(tb.Context(), cfg)
	if err != nil {
		if why := lab.Require(); why != nil {
			tb.Fatalf("cannot test here: %v", why)
		}
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if tb.Failed() {
			tb.Logf("log of machine %s:\n%s", m.Name, m.Log())
		}
		if err := m.Stop(); err != nil {
			tb.Error(err)
		}
	})
	return m
}
