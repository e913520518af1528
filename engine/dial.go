package engine

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"

	"runner/engine/inventory"
	"runner/engine/secret/source"
	"runner/engine/transport"
	"runner/engine/transport/ssh"
)

// SSHDialer reaches devices over SSH as inventories say. Secrets are read from
// their sources at each dial and kept in memory only.
type SSHDialer struct {
	SSH *ssh.Dialer
	// KnownHosts is the file for inventories that name none.
	KnownHosts string
	// AgentSocket is the agent that "agent: env" stands for.
	AgentSocket string
}

var _ Dialer = (*SSHDialer)(nil)

// Dial connects and logs in as runner itself.
func (d *SSHDialer) Dial(ctx context.Context, c *inventory.Connection) (transport.Conn, error) {
	cfg, err := d.config(ctx, c)
	if err != nil {
		return nil, err
	}
	return d.SSH.Dial(ctx, cfg)
}

// Prove logs in as the account of a grant.
func (d *SSHDialer) Prove(ctx context.Context, c *inventory.Connection, l Login) error {
	cfg, err := d.config(ctx, c)
	if err != nil {
		return err
	}
	cfg.User = l.Account
	cfg.Become = ssh.Become{}
	if l.PublicKey != "" {
		cfg.Auth = ssh.Auth{}
		return d.SSH.ProveKey(ctx, cfg, l.PublicKey)
	}
	cfg.Auth = l.auth()
	return d.SSH.Prove(ctx, cfg)
}

// auth is how a login is done over SSH.
func (l Login) auth() ssh.Auth {
	if !l.PrivateKey.IsZero() {
		return ssh.Auth{Methods: []string{ssh.MethodPublicKey}, PrivateKey: l.PrivateKey}
	}
	return ssh.Auth{Methods: []string{ssh.MethodPassword}, Password: l.Password}
}

// Program returns what a new connection would send for a batch.
func (d *SSHDialer) Program(_ *inventory.Connection, b transport.Batch) (string, error) {
	return ssh.Program(b)
}

// config turns a connection of the inventory into one of the transport.
func (d *SSHDialer) config(ctx context.Context, c *inventory.Connection) (ssh.Config, error) {
	cfg := ssh.Config{
		Address: net.JoinHostPort(c.Address, strconv.Itoa(c.Port)), User: c.User,
		HostKeys:    ssh.HostKeys{Policy: c.HostKeyPolicy, Known: c.HostKeys, File: c.KnownHosts},
		DialTimeout: c.Dial, StepTimeout: c.Step, Keepalive: c.Keep,
		Become: ssh.Become{Method: c.Become.Method},
	}
	if cfg.HostKeys.File == "" {
		cfg.HostKeys.File = d.KnownHosts
	}
	var err error
	if cfg.Auth, err = d.auth(ctx, c); err != nil {
		return cfg, configError(cfg.Address, err)
	}
	if c.Become.Password != nil {
		if cfg.Become.Password, err = source.Read(ctx, spec(c.Become.Password)); err != nil {
			return cfg, configError(cfg.Address, fmt.Errorf("sudo password: %w", err))
		}
	} else if !cfg.Auth.Password.IsZero() {
		cfg.Become.Password = cfg.Auth.Password
	}
	for i := range c.Jump {
		hop, err := d.config(ctx, &c.Jump[i])
		if err != nil {
			return cfg, err
		}
		cfg.Jump = append(cfg.Jump, hop)
	}
	return cfg, nil
}

// secretCode is the code of errors about runner's own secrets.
const secretCode = "auth.secret"

// configError is a failure from before anything was sent.
func configError(device string, err error) error {
	return &transport.Error{Phase: transport.PhaseAuth, Device: device, Code: secretCode, SafeToRetry: true, Step: -1, Err: err}
}

// auth reads the secret that the connection logs in with.
func (d *SSHDialer) auth(ctx context.Context, c *inventory.Connection) (ssh.Auth, error) {
	a := ssh.Auth{Methods: c.Methods}
	s := c.Secret
	if s == nil {
		s = &inventory.Source{Agent: "env"}
	}
	if s.Agent != "" {
		a.AgentSocket = s.Agent
		if s.Agent == "env" {
			a.AgentSocket = d.AgentSocket
		}
		if a.AgentSocket == "" {
			return a, errors.New("no SSH agent is running (SSH_AUTH_SOCK is not set); start one, or say secret_from: {file: …}")
		}
		return a, nil
	}
	v, err := source.Read(ctx, spec(s))
	if err != nil {
		return a, err
	}
	if s.Kind != "private_key" {
		a.Password = v
		return a, nil
	}
	a.PrivateKey = v
	if s.Passphrase != nil {
		if a.Passphrase, err = source.Read(ctx, spec(s.Passphrase)); err != nil {
			return a, fmt.Errorf("passphrase: %w", err)
		}
	}
	if s.Certificate != "" {
		if a.Certificate, err = os.ReadFile(s.Certificate); err != nil {
			return a, fmt.Errorf("certificate: %w", err)
		}
	}
	return a, nil
}

func spec(s *inventory.Source) source.Spec { return source.Spec{File: s.File, Command: s.Command} }
