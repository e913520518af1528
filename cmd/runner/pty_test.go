package main

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// terminal is a pseudo-terminal with somebody in front of it.
type terminal struct {
	t             testing.TB
	master, slave *os.File
	mu            sync.Mutex
	shown         strings.Builder
	more          chan struct{} // something was shown
	cmd           *exec.Cmd     // what runs on it
}

func newTerminal(tb testing.TB, cols, rows uint16) *terminal {
	tb.Helper()
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		tb.Fatal(err)
	}
	k := &terminal{t: tb, master: os.NewFile(uintptr(fd), "ptmx"), more: make(chan struct{}, 1)}
	tb.Cleanup(func() { _ = k.master.Close() })
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)
	}
	if err != nil {
		tb.Fatal(err)
	}
	if k.slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = k.slave.Close() })
	k.resize(cols, rows)
	go func() {
		buf := make([]byte, 4096)
		for {
			n, err := k.master.Read(buf)
			k.mu.Lock()
			k.shown.Write(buf[:n])
			k.mu.Unlock()
			select {
			case k.more <- struct{}{}:
			default:
			}
			if err != nil {
				return
			}
		}
	}()
	return k
}

func (k *terminal) resize(cols, rows uint16) {
	k.t.Helper()
	if err := unix.IoctlSetWinsize(int(k.slave.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Col: cols, Row: rows}); err != nil {
		k.t.Fatal(err)
	}
}

// start runs a program on the terminal, which is its controlling one.
func (k *terminal) start(cmd *exec.Cmd) {
	k.t.Helper()
	cmd.Stdin, cmd.Stdout, cmd.Stderr = k.slave, k.slave, k.slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		k.t.Fatal(err)
	}
	k.cmd = cmd
}

// types sends keys.
func (k *terminal) types(keys string) {
	k.t.Helper()
	if _, err := k.master.WriteString(keys); err != nil {
		k.t.Fatal(err)
	}
}

func (k *terminal) all() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.shown.String()
}

// sees waits until a text is shown that was not seen before.
func (k *terminal) sees(text string) {
	k.t.Helper()
	late := time.After(time.Minute)
	for {
		k.mu.Lock()
		if _, rest, found := strings.Cut(k.shown.String(), text); found {
			k.shown.Reset()
			k.shown.WriteString(rest)
			k.mu.Unlock()
			return
		}
		k.mu.Unlock()
		select {
		case <-k.more:
		case <-late:
			shown := k.all()
			if k.cmd != nil { // its goroutines say what it waits for
				_ = k.cmd.Process.Signal(syscall.SIGQUIT)
				_ = k.cmd.Wait()
			}
			k.t.Fatalf("the terminal never shows %q, but\n%s\n%s", text, shown, k.all())
		}
	}
}
