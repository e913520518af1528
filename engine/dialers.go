package engine

import (
	"context"
	"fmt"

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
