package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// outputWait is how long what a program wrote is still read after its end. What
// it left running may keep the terminal open for ever.
const outputWait = 200 * time.Millisecond

// Attach runs a program as root inside all namespaces of the machine until it
// ends, with the caller's streams, and returns its exit status: 128+n for
// signal n. The error is about this process, not the program; a stopped machine
// is [ErrNotRunning]. When ctx ends, the program is killed or its terminal
// hangs up.
func (m *Machine) Attach(ctx context.Context, s Session) (int, error) {
	if !m.proc.alive() {
		return 0, ErrNotRunning
	}
	args := []string{"-t", strconv.Itoa(m.proc.Pid), "-m", "-u", "-i", "-p", "-r", "-w", "--"}
	if s.Size != nil {
		// A session of its own, inside, with the terminal as its own.
		args = append(args, "setsid", "-c", "-w")
	}
	argv := s.Argv
	if len(argv) == 0 {
		argv = []string{"/bin/sh", "-c", `cd; exec "$SHELL" -l`}
	}
	cmd := exec.CommandContext(ctx, "nsenter", append(args, argv...)...)
	cmd.Env = append(environment(), "TERM="+s.Term)
	cmd.WaitDelay = 5 * time.Second
	killGroup(cmd)
	var err error
	if s.Size == nil {
		cmd.Stdout, cmd.Stderr = s.Stdout, s.Stderr
		err = runWith(cmd, s.Stdin)
	} else {
		err = m.onTerminal(cmd, s)
	}
	if ctx.Err() != nil {
		return 0, fmt.Errorf("lab: %s: %w", argv[0], context.Cause(ctx))
	}
	if x, ok := errors.AsType[*exec.ExitError](err); ok {
		return exitCode(x), nil
	}
	if err != nil {
		return 0, fmt.Errorf("lab: %s: %w", argv[0], err)
	}
	return 0, nil
}

// runWith runs cmd with an input that it need not read to the end. Of one that
// is no file the reader goes on until the caller's next byte, or its end.
func runWith(cmd *exec.Cmd, stdin io.Reader) error {
	if f, is := stdin.(*os.File); is || stdin == nil {
		if f != nil {
			cmd.Stdin = f
		}
		return cmd.Run()
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	go func() {
		_, _ = io.Copy(in, stdin) // the program may not want all of it
		_ = in.Close()
	}()
	return cmd.Wait()
}

// onTerminal runs cmd on a new terminal of the machine and carries what is
// typed and shown, until cmd has ended.
func (m *Machine) onTerminal(cmd *exec.Cmd, s Session) error {
	master, slave, err := openTerminal(m.RootDir() + "/dev/pts/ptmx")
	if err != nil {
		return err
	}
	defer master.Close()
	resize(master, s.Size)
	resized := make(chan os.Signal, 1)
	signal.Notify(resized, unix.SIGWINCH)
	defer signal.Stop(resized)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	err = cmd.Start()
	_ = slave.Close()
	if err != nil {
		return err
	}
	ended := make(chan struct{})
	shown := make(chan struct{})
	go func() {
		defer close(shown)
		_, _ = io.Copy(s.Stdout, master) // ends with EIO when nobody has the terminal any more
	}()
	go func() { _, _ = io.Copy(master, s.Stdin) }() // ends with the caller's next key, or its end
	go func() {
		for {
			select {
			case <-resized:
				resize(master, s.Size)
			case <-ended:
				return
			}
		}
	}()
	err = cmd.Wait()
	close(ended)
	select {
	case <-shown:
	case <-time.After(outputWait):
		_ = master.Close()
		<-shown
	}
	return err
}

// openTerminal opens a new pair of terminals of the devpts that ptmx belongs to;
// see pts(4) and ioctl_tty(2).
func openTerminal(ptmx string) (master, slave *os.File, err error) {
	fd, err := unix.Open(ptmx, unix.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("open a terminal: %w", err)
	}
	master = os.NewFile(uintptr(fd), ptmx)
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		return nil, nil, errors.Join(fmt.Errorf("unlock a terminal: %w", err), master.Close())
	}
	peer, err := openPeer(fd)
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("open a terminal: %w", err), master.Close())
	}
	return master, os.NewFile(uintptr(peer), "tty"), nil
}

// openPeer opens the other end of a terminal, for reading and writing.
func openPeer(master int) (int, error) {
	fd, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(master), unix.TIOCGPTPEER, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC)
	if errno != 0 {
		return 0, errno
	}
	return int(fd), nil
}

func resize(master *os.File, size func() (cols, rows int)) {
	cols, rows := size()
	if cols <= 0 || rows <= 0 {
		return
	}
	raw, err := master.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		ws := &unix.Winsize{Col: uint16(min(cols, 1<<15)), Row: uint16(min(rows, 1<<15))} //nolint:gosec // bounded
		_ = unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, ws)                            // without it the size is unknown
	})
}
