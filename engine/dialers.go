package engine

import (
	"context"
	"fmt"
	"net"
	"strconv"

	"runner/engine/inventory"
	"runner/engine/transport"
	"runner/engine/transport/winrm"
)

// Dialers reaches devices by the transport that their inventory names.
type Dialers struct {
	SSH   *SSHDialer
	WinRM *WinRMDialer
}

var _ Dialer = (*Dialers)(nil)

// Dial connects and logs in as runner itself.
func (d *Dialers) Dial(ctx context.Context, c *inventory.Connection) (transport.Conn, error) {
	if c.WinRM != nil {
		return d.WinRM.Dial(ctx, c)
	}
	return d.SSH.Dial(ctx, c)
}

// Prove logs in as the account of a grant.
func (d *Dialers) Prove(ctx context.Context, c *inventory.Connection, l Login) error {
	if c.WinRM != nil {
		return fmt.Errorf("device %s is reached over %s, where a module of the device proves logins", c.Device, c.Transport)
	}
	return d.SSH.Prove(ctx, c, l)
}

// Program returns what a new connection would send for a batch.
func (d *Dialers) Program(c *inventory.Connection, b transport.Batch) (string, error) {
	if c.WinRM != nil {
		return winrm.Program(b)
	}
	return d.SSH.Program(c, b)
}

// WinRMDialer reaches Windows devices as inventories say.
type WinRMDialer struct {
	WinRM *winrm.Dialer
	// Device returns the host that a connection describes, as runner's own
	// identity sees it. It connects to nothing yet.
	Device func(ctx context.Context, c *inventory.Connection) (winrm.Device, error)
}

// Dial takes a place on a runspace pool of the device.
func (d *WinRMDialer) Dial(ctx context.Context, c *inventory.Connection) (transport.Conn, error) {
	address := net.JoinHostPort(c.Address, strconv.Itoa(c.Port))
	dev, err := d.Device(ctx, c)
	if err != nil {
		return nil, configError(address, err)
	}
	return d.WinRM.Dial(ctx, winrm.Config{
		Device: dev, Address: address, User: c.User, DialTimeout: c.Dial, StepTimeout: c.Step, MaxEnvelope: c.WinRM.MaxEnvelope,
	})
}
