package ssh

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"

	"runner/engine/transport"
)

// quickAck makes the kernel acknowledge at once what was just read. The option
// does not last, so it is set again after each read; without it a delayed
// acknowledgement meets the server's small writes and costs 40 ms. It also bounds
// how long the kernel goes on sending for a connection, also one that was closed.
func quickAck(c net.Conn) func() {
	tcp, ok := c.(*net.TCPConn)
	if !ok {
		return func() {}
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return func() {}
	}
	_ = raw.Control(func(fd uintptr) {
		_ = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(transport.Undelivered.Milliseconds()))
	})
	set := func(fd uintptr) { _ = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_QUICKACK, 1) }
	return func() { _ = raw.Control(set) }
}
