package ssh

import (
	"os"
	"testing"

	"runner/engine/lab"
	"runner/engine/lab/labtest"
	"runner/engine/secret"
	"runner/engine/transport"
)

// BenchmarkRun tells what a batch of seven small steps costs on a connection of
// its own, on a kept connection, and on a coordinator that is there.
func BenchmarkRun(b *testing.B) {
	m := labtest.StartT(b, lab.Config{})
	key, err := os.ReadFile(m.KeyFile())
	if err != nil {
		b.Fatal(err)
	}
	cfg := Config{Address: m.Addr, User: "root", Auth: Auth{PrivateKey: secret.New(string(key))}, HostKeys: HostKeys{Known: []string{m.HostKey}}}
	batch := transport.Batch{ID: "x-1", Scope: "g", Steps: steps(7)}
	run := func(b *testing.B, c transport.Conn) {
		b.Helper()
		if err := c.Run(b.Context(), batch, func(transport.Event) {}); err != nil {
			b.Fatal(err)
		}
	}
	dial := func(b *testing.B, d *Dialer) transport.Conn {
		b.Helper()
		c, err := d.Dial(b.Context(), cfg)
		if err != nil {
			b.Fatal(err)
		}
		return c
	}
	b.Run("cold", func(b *testing.B) {
		for b.Loop() {
			d := &Dialer{}
			run(b, dial(b, d))
			_ = d.Close()
		}
	})
	b.Run("kept connection", func(b *testing.B) {
		d := &Dialer{}
		defer func() { _ = d.Close() }()
		for b.Loop() {
			c := dial(b, d)
			run(b, c)
			_ = c.Close()
		}
	})
	b.Run("coordinator", func(b *testing.B) {
		d := &Dialer{}
		defer func() { _ = d.Close() }()
		c := dial(b, d)
		for b.Loop() {
			run(b, c)
		}
	})
}
