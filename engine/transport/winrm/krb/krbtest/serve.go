package krbtest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"
)

// freePort returns an address of loopback that is free over TCP and UDP.
func freePort(ctx context.Context) (string, error) {
	var lc net.ListenConfig
	for range 20 {
		l, err := lc.Listen(ctx, "tcp4", "127.0.0.1:0")
		if err != nil {
			return "", err
		}
		p, err := lc.ListenPacket(ctx, "udp4", l.Addr().String())
		l.Close()
		if err == nil {
			_ = p.Close()
			return l.Addr().String(), nil
		}
	}
	return "", errors.New("no port is free over TCP and UDP")
}

// serve starts a program that ends with the test, and waits until it listens.
func serve(tb testing.TB, addr string, env []string, program string, args ...string) error {
	tb.Helper()
	cmd := exec.Command(program, args...) //nolint:noctx // ended below, when the test is over
	cmd.Env = env
	// it ends with us even when we are killed
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	var ended error
	started, done := make(chan error), make(chan struct{})
	go func() {
		runtime.LockOSThread() // whose end would be taken for ours
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			ended = cmd.Wait()
		}
		close(done)
	}()
	if err := <-started; err != nil {
		return err
	}
	stop := func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		<-done
	}
	ctx, cancel := context.WithTimeout(tb.Context(), 30*time.Second)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		nc, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
		if err == nil {
			nc.Close()
			tb.Cleanup(stop)
			return nil
		}
		select {
		case <-done:
			return fmt.Errorf("%s ended: %w", filepath.Base(program), ended)
		case <-ctx.Done():
			stop()
			return fmt.Errorf("%s does not listen on %s", filepath.Base(program), addr)
		case <-tick.C:
		}
	}
}

// anywhere starts a server on a port that is free, and tries another where somebody
// else was faster.
func anywhere(tb testing.TB, start func(addr string) error) (addr string) {
	tb.Helper()
	for try := 1; ; try++ {
		addr, err := freePort(tb.Context())
		if err == nil {
			err = start(addr)
		}
		if err == nil {
			return addr
		}
		if try == 3 {
			tb.Fatal(err)
		}
	}
}
