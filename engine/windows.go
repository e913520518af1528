package engine

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"

	"runner/engine/inventory"
	"runner/engine/secret"
	"runner/engine/secret/source"
	"runner/engine/transport"
	"runner/engine/transport/ssh"
	"runner/engine/transport/winrm"
	"runner/engine/transport/winrm/gss"
	"runner/engine/transport/winrm/krb"
	"runner/engine/transport/winrm/wsman"
	"runner/engine/transport/winrm/wsman/wire"
)

// WinRMDialer reaches Windows devices as inventories say. Secrets are read from
// their sources at each dial and kept in memory only; all logins with one secret
// share their tickets. Close ends it.
type WinRMDialer struct {
	WinRM *winrm.Dialer
	// SSH reaches the jump hosts that connections go through.
	SSH *SSHDialer
	// Device, when it is set, returns the host in place of the one that the
	// connection describes.
	Device func(ctx context.Context, c *inventory.Connection) (winrm.Device, error)

	tickets krb.Cache
}

// Dial takes a place on a runspace pool of the device.
func (d *WinRMDialer) Dial(ctx context.Context, c *inventory.Connection) (transport.Conn, error) {
	address := hostPort(c)
	dev, err := d.device(ctx, c)
	if _, is := errors.AsType[*transport.Error](err); is {
		return nil, err
	}
	if err != nil {
		return nil, configError(address, err)
	}
	return d.WinRM.Dial(ctx, winConfig(c, dev))
}

// Close ends pools and forgets tickets.
func (d *WinRMDialer) Close() error {
	err := d.WinRM.Close()
	d.tickets.Close()
	return err
}

func hostPort(c *inventory.Connection) string {
	return net.JoinHostPort(c.Address, strconv.Itoa(c.Port))
}

func winConfig(c *inventory.Connection, dev winrm.Device) winrm.Config {
	return winrm.Config{
		Device: dev, Address: hostPort(c), Shell: c.WinRM.Shell, User: c.User, DialTimeout: c.Dial, StepTimeout: c.Step, MaxEnvelope: c.WinRM.MaxEnvelope,
	}
}

func (d *WinRMDialer) device(ctx context.Context, c *inventory.Connection) (winrm.Device, error) {
	if d.Device != nil {
		return d.Device(ctx, c)
	}
	l, err := d.login(ctx, c)
	if err != nil {
		return nil, err
	}
	return l.device(c)
}

// winLogin is how runner gets to a device and who it is there.
type winLogin struct {
	wire     wire.Config
	identity string      // tells logins apart; no secret
	tickets  *krb.Client // nil: no Kerberos
}

func (l *winLogin) device(c *inventory.Connection) (*wsman.Device, error) {
	return wsman.New(wsman.Config{
		Config: l.wire, Identity: l.identity, User: c.User, Configuration: c.WinRM.Configuration,
		OperationTimeout: c.WinRM.Operation, MaxEnvelope: c.WinRM.MaxEnvelope,
	})
}

// login reads the secret and settles how to log in. Nothing is sent yet.
func (d *WinRMDialer) login(ctx context.Context, c *inventory.Connection) (*winLogin, error) {
	w := c.WinRM
	dial, route, err := d.route(ctx, c)
	if err != nil {
		return nil, err
	}
	l := &winLogin{wire: wire.Config{Address: hostPort(c), DialTimeout: c.Dial, Dial: dial, SPN: w.SPN, Service: w.Service}}
	if l.wire.TLS, err = tlsOf(w); err != nil {
		return nil, err
	}
	if c.Secret == nil {
		return nil, errors.New("the credential names no secret")
	}
	if w.Auth == "basic" {
		l.wire.Basic = &wire.Basic{User: c.User}
		l.wire.Basic.Password, err = source.Read(ctx, spec(c.Secret))
		l.identity = strings.Join([]string{"basic", c.User, c.Secret.File, strings.Join(c.Secret.Command, " "), route}, "|")
		return l, err
	}
	cfg, err := ticketsOf(ctx, c)
	if err != nil {
		return nil, err
	}
	cfg.Dial, cfg.Route = dial, route
	if l.tickets, err = d.tickets.Client(cfg); err != nil {
		return nil, err
	}
	l.wire.Mechanism = &gss.Kerberos{Tickets: l.tickets}
	l.identity = strings.Join([]string{l.tickets.Principal(), c.Secret.File, strings.Join(c.Secret.Command, " "), c.Secret.Keytab, c.Secret.CCache, w.SPN, w.Service, route}, "|")
	return l, nil
}

// ticketsOf says who asks which KDCs for tickets, and with what.
func ticketsOf(ctx context.Context, c *inventory.Connection) (krb.Config, error) {
	w := c.WinRM
	user, _, _ := strings.Cut(c.User, "@")
	cfg := krb.Config{Realm: w.Realm, User: user, KDCs: w.KDCs}
	var err error
	if w.Krb5Conf != "" {
		if cfg.Conf, err = krb.ReadConf(w.Krb5Conf); err != nil {
			return cfg, err
		}
	}
	binary := func(path string) (secret.Value, error) { return source.Read(ctx, source.Spec{File: path, Exact: true}) }
	switch s := c.Secret; {
	case s.Keytab != "":
		cfg.Keytab, err = binary(s.Keytab)
	case s.CCache != "":
		cfg.CCache, err = binary(s.CCache)
	default:
		cfg.Password, err = source.Read(ctx, spec(s))
	}
	return cfg, err
}

// tlsOf says which certificate is accepted; nil: http.
func tlsOf(w *inventory.ConnectionWinRM) (*wire.TLS, error) {
	if w.Scheme != "https" {
		return nil, nil //nolint:nilnil // no TLS
	}
	t := &wire.TLS{Fingerprint: w.Certificate}
	if w.CAFile == "" {
		return t, nil
	}
	text, err := os.ReadFile(w.CAFile)
	if err != nil {
		return nil, fmt.Errorf("ca_file: %w", err)
	}
	if t.Roots = x509.NewCertPool(); !t.Roots.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("ca_file: %s holds no certificate in PEM", w.CAFile)
	}
	return t, nil
}

// route returns how the device and its KDCs are dialled, and a name for the way;
// nil and nothing: directly.
func (d *WinRMDialer) route(ctx context.Context, c *inventory.Connection) (wire.DialFunc, string, error) {
	if c.WinRM.SOCKS5 != "" {
		return wire.SOCKS5(c.WinRM.SOCKS5), "socks5 " + c.WinRM.SOCKS5, nil
	}
	if len(c.Jump) == 0 {
		return nil, "", nil
	}
	if d.SSH == nil {
		return nil, "", errors.New("there is nothing that reaches jump hosts")
	}
	var hops []ssh.Config
	var names []string
	for i := range c.Jump {
		hop, err := d.SSH.config(ctx, &c.Jump[i])
		if err != nil {
			return nil, "", err
		}
		hops = append(hops, hop)
		names = append(names, hop.User+"@"+hop.Address)
	}
	return d.SSH.SSH.Through(hops), "ssh " + strings.Join(names, " "), nil
}

// who says for people who logs in where.
func who(c *inventory.Connection) string {
	user, _, _ := strings.Cut(c.User, "@")
	return user + "@" + cmp.Or(c.WinRM.Realm, c.Address)
}
