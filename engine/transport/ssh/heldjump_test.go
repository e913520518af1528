package ssh

import (
	"bytes"
	"io"
	"strings"
	"testing"
)

func TestASessionGoesThroughAJumpHost(t *testing.T) {
	t.Parallel()
	m, edge := machine(t, ""), machine(t, "")
	cfg, create := heldAccount(t, m, "inner")
	cfg.Jump = []Config{config(t, edge, "plain")}
	h := dialer(t).Hold(t.Context(), cfg)
	defer func() { _ = h.Close() }()
	reachedGate(t, h)
	create()
	if err := h.Login(t.Context(), cfg.Auth); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	status, err := h.Run(t.Context(), Session{Command: "id -un", Stdin: strings.NewReader(""), Stdout: &out, Stderr: io.Discard})
	if err != nil || status != 0 || out.String() != "inner\n" {
		t.Fatalf("status %d, %v, output %q", status, err, out.String())
	}
}

func TestADroppedConnectionEndsASession(t *testing.T) {
	t.Parallel()
	m := machine(t, "")
	cfg := config(t, m, "jitadm")
	h := dialer(t).Hold(t.Context(), cfg)
	defer func() { _ = h.Close() }()
	if err := h.Login(t.Context(), cfg.Auth); err != nil {
		t.Fatal(err)
	}
	out := &talk{said: make(chan string, 100)}
	go func() {
		out.expect(t, "ready")
		_ = h.lk.client.Close()
	}()
	in, keys := io.Pipe()
	defer func() { _ = keys.Close() }()
	status, err := h.Run(t.Context(), Session{Command: "echo ready; exec sleep 1000", Stdin: in, Stdout: out, Stderr: io.Discard})
	if err == nil || status != StatusLost {
		t.Fatalf("status %d, %v", status, err)
	}
}
