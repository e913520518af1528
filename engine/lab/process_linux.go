package lab

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// process names a process for longer than its number is valid: the start time
// tells it from a later one with the same number.
type process struct {
	Pid   int    `json:"pid"`
	Start uint64 `json:"start"` // clock ticks since boot, field 22 of /proc/PID/stat (proc(5))
	Boot  string `json:"boot"`  // /proc/sys/kernel/random/boot_id
}

func lookup(pid int) (process, error) {
	p := process{Pid: pid}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return p, err
	}
	// The second field is the program's name in brackets and may hold anything.
	_, rest, ok := bytes.Cut(stat[max(0, bytes.LastIndexByte(stat, ')')):], []byte(") "))
	fields := bytes.Fields(rest)
	if !ok || len(fields) < 20 {
		return p, fmt.Errorf("lab: unexpected /proc/%d/stat", pid)
	}
	if string(fields[0]) == "Z" || string(fields[0]) == "X" {
		return p, os.ErrProcessDone
	}
	if p.Start, err = strconv.ParseUint(string(fields[19]), 10, 64); err != nil {
		return p, fmt.Errorf("lab: /proc/%d/stat: %w", pid, err)
	}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	p.Boot = string(bytes.TrimSpace(boot))
	return p, err
}

func (p process) alive() bool {
	now, err := lookup(p.Pid)
	return err == nil && now == p
}

// kill ends the process with SIGKILL and returns when it is gone. A process that is
// gone already, or whose number now belongs to another one, is no error.
func (p process) kill() error {
	if p.Pid == 0 { // never started
		return nil
	}
	fd, err := unix.PidfdOpen(p.Pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if !p.alive() { // asked after the number was pinned by the descriptor
		return nil
	}
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return err
	}
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(killWait.Milliseconds())) //nolint:gosec // a descriptor fits
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err == nil && n == 0 {
			return fmt.Errorf("process %d did not end within %v", p.Pid, killWait)
		}
		return err
	}
}

// spawn starts cmd as first process of new namespaces. Unless detached, the kernel
// kills it when this process ends in whatever way. done closes once it was reaped.
func spawn(cmd *exec.Cmd, detached bool) (p process, done chan struct{}, err error) {
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Setsid:     true,
		Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC,
	}
	if !detached {
		cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	}
	started := make(chan error)
	done = make(chan struct{})
	go func() {
		defer close(done)
		// The kernel takes the end of the thread that forked for the parent's death.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		if err := cmd.Start(); err != nil {
			started <- err
			return
		}
		p, err = lookup(cmd.Process.Pid)
		started <- nil
		_ = cmd.Wait() // how it ended is in the log
	}()
	if startErr := <-started; startErr != nil {
		return process{}, nil, startErr
	}
	if err != nil && !errors.Is(err, os.ErrProcessDone) { // a process that ended at once is the caller's to explain
		_ = cmd.Process.Kill()
		<-done
		return process{}, nil, err
	}
	return p, done, nil
}

// killGroup makes the end of cmd's context kill what cmd has started, too.
func killGroup(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
}

func privileged() bool { return os.Geteuid() == 0 }
