package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// The account that is there already, for the plain ssh.
const plain = "jitadm"

// launches times how long a person waits for a prompt: runner launch, which makes the
// account first, and plain ssh with an account that is there, in turns.
func (b *bench) launches(ctx context.Context, delay time.Duration) error {
	m := b.machines[0]
	addr := m.Addr
	if delay > 0 {
		p, err := newProxy(ctx, addr, delay)
		if err != nil {
			return err
		}
		defer p.Close()
		addr = p.Addr()
	}
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp(b.work, "launch-")
	if err != nil {
		return err
	}
	known := filepath.Join(dir, "known_hosts")
	files := map[string]string{
		known:                             fmt.Sprintf("[%s]:%s %s\n", host, port, m.HostKey),
		filepath.Join(dir, "runner.yaml"): "schema: runner/v1\nkind: workspace\n",
		filepath.Join(dir, "inventories", "all.yaml"): fmt.Sprintf(`schema: runner/v1
kind: inventory
name: Linux-SSH
transport: ssh
methods: [publickey]
become: {method: sudo}
---
schema: runner/v1
kind: device
name: box
address: %s
port: %s
inventory: Linux-SSH
host_keys: ["%s"]
---
schema: runner/v1
kind: credential
name: admin
device: box
authentication: {user: %s, secret_from: {file: %s, kind: private_key}}
jit: {create: linux-user}
`, host, port, m.HostKey, plain, m.KeyFile()),
	}
	for path, text := range files {
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(text), 0o600)); err != nil {
			return err
		}
	}
	contenders := []struct {
		name string
		argv []string
		took []sample
	}{
		{name: "ssh", argv: []string{"ssh", "-F", "none", "-p", port, "-i", m.KeyFile(), "-o", "IdentitiesOnly=yes", "-o", "UserKnownHostsFile=" + known, plain + "@" + host}},
		{name: "runner launch", argv: []string{filepath.Join(b.root, "bin", "runner"), "--workspace", dir, "launch", "admin"}},
	}
	for n := range b.runs + 1 {
		for i := range contenders {
			c := &contenders[i]
			took, err := prompt(ctx, c.argv)
			if err != nil {
				return fmt.Errorf("%s at %v: %w", c.name, delay, err)
			}
			if n > 0 { // the first one warms caches
				c.took = append(c.took, sample{wall: took})
			}
		}
	}
	fmt.Fprintf(b.out, "\nto the prompt, round trip %v, median of %d\n%-20s %10s %8s\n", delay, b.runs, "", "wall ms", "/ ssh")
	wall := func(s sample) time.Duration { return s.wall }
	floor := median(contenders[0].took, wall)
	for _, c := range contenders {
		d := median(c.took, wall)
		fmt.Fprintf(b.out, "%-20s %10.1f %8.2f\n", c.name, ms(d), d.Seconds()/floor.Seconds())
	}
	return nil
}

// prompt runs a program on a terminal of its own (script, of util-linux), and returns
// how long it took to the prompt of a shell. The shell is told to exit then.
func prompt(ctx context.Context, argv []string) (time.Duration, error) {
	quoted := make([]string, len(argv))
	for i, a := range argv {
		quoted[i] = "'" + strings.ReplaceAll(a, "'", `'\''`) + "'"
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "script", "-qfec", strings.Join(quoted, " "), "/dev/null")
	cmd.Env = append(os.Environ(), "TERM=xterm", "NO_COLOR=1")
	in, err := cmd.StdinPipe()
	if err != nil {
		return 0, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return 0, err
	}
	begin := time.Now()
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	var (
		shown bytes.Buffer
		took  time.Duration
		buf   = make([]byte, 4096)
	)
	for {
		n, err := out.Read(buf)
		shown.Write(buf[:n])
		if took == 0 && bytes.HasSuffix(bytes.TrimRight(shown.Bytes(), " "), []byte("$")) {
			took = time.Since(begin)
			if _, err := io.WriteString(in, "exit\r"); err != nil {
				return 0, err
			}
		}
		if err != nil {
			break
		}
	}
	if err := cmd.Wait(); err != nil || took == 0 {
		return 0, fmt.Errorf("no prompt: %w\n%s", err, shown.String())
	}
	return took, nil
}
