package wire

import (
	"syscall"

	"golang.org/x/sys/unix"

	"runner/engine/transport"
)

// giveUp bounds how long the kernel goes on sending for a connection, also one
// that was closed, or whose process is gone.
func giveUp(_, _ string, c syscall.RawConn) error {
	return c.Control(func(fd uintptr) {
		_ = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(transport.Undelivered.Milliseconds()))
	})
}
