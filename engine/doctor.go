package engine

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"runner/engine/executor"
	"runner/engine/inventory"
	"runner/engine/lang"
	"runner/engine/module"
	"runner/engine/transport"
	"runner/engine/transport/winrm/gss"
	"runner/engine/transport/winrm/krb"
	"runner/engine/transport/winrm/wsman"
)

// CheckStages are the steps on the way to a Windows device, in order.
var CheckStages = []string{"secret", "name", "tcp", "kdc", "tgt", "ticket", "authentication", "identify", "shell", "pipeline", "language", "rights"}

// Stage is what became of one of them.
type Stage struct {
	Name   string
	Status string // ok, failed or skipped
	Took   time.Duration
	Detail string // what was found, or why it failed; never a secret
	Code   string // of a failure
	Hint   string // what to do about it
}

// checkup goes the way to a device, stage by stage, until one fails.
type checkup struct {
	d      *WinRMDialer
	c      *inventory.Connection
	reg    *module.Registry
	stages []Stage
	broken bool

	login *winLogin
	dev   *wsman.Device
	facts map[string]any
}

// Check goes all the way to a Windows device and tells how far that came: nothing
// is changed there, and runner logs in once. It returns every stage, and the facts
// of the device when it got that far. d must not be in use.
func (d *WinRMDialer) Check(ctx context.Context, c *inventory.Connection, reg *module.Registry) ([]Stage, map[string]any) {
	k := &checkup{d: d, c: c, reg: reg}
	k.stage("secret", func() (detail string, err error) {
		k.login, err = d.login(ctx, c)
		return "", err
	})
	k.stage("name", func() (string, error) { return k.name(ctx) })
	k.stage("tcp", func() (string, error) { return k.tcp(ctx) })
	k.kerberos(ctx)
	k.host(ctx)
	k.shell(ctx)
	for _, name := range CheckStages[len(k.stages):] {
		k.stages = append(k.stages, Stage{Name: name, Status: "skipped"})
	}
	return k.stages, k.facts
}

// stage runs one stage unless an earlier one failed.
func (k *checkup) stage(name string, f func() (detail string, err error)) {
	if k.broken {
		return
	}
	start := time.Now()
	detail, err := f()
	s := Stage{Name: name, Status: "ok", Took: time.Since(start), Detail: detail}
	if errors.Is(err, errSkipped) {
		s.Status, s.Took, err = "skipped", 0, nil
	}
	k.end(s, err)
}

// errSkipped says that there is nothing to do at a stage.
var errSkipped = errors.New("not needed")

// end notes a stage.
func (k *checkup) end(s Stage, err error) {
	if err != nil {
		k.broken = true
		s.Status, s.Detail = "failed", err.Error()
		s.Code, s.Hint = advice(err)
	}
	k.stages = append(k.stages, s)
}

// advice returns the code of an error and what to do about it.
func advice(err error) (code, hint string) {
	if te, is := errors.AsType[*transport.Error](err); is {
		return te.Code, te.Hint
	}
	if ge, is := errors.AsType[*gss.Error](err); is {
		return ge.Code, ge.Hint
	}
	if ke, is := errors.AsType[*krb.Error](err); is {
		return ke.Code, ke.Hint
	}
	if de, is := errors.AsType[*adviceError](err); is {
		return de.code, de.hint
	}
	return "", ""
}

// adviceError is a finding of the checkup itself.
type adviceError struct{ text, code, hint string }

func (e *adviceError) Error() string { return e.text }

func (k *checkup) name(ctx context.Context) (string, error) {
	if _, err := netip.ParseAddr(k.c.Address); err == nil {
		return "an address", errSkipped
	}
	if k.login.wire.Dial != nil {
		return "looked up by the connector", errSkipped
	}
	ctx, cancel := context.WithTimeout(ctx, k.c.Dial)
	defer cancel()
	addrs, err := net.DefaultResolver.LookupHost(ctx, k.c.Address)
	if err != nil {
		return "", &adviceError{fmt.Sprintf("the name %s cannot be looked up: %v", k.c.Address, err), "dial.name", "write the full name of the host as address, as DNS of the domain knows it"}
	}
	return strings.Join(addrs, ", "), nil
}

func (k *checkup) tcp(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, k.c.Dial)
	defer cancel()
	dial := k.login.wire.Dial
	if dial == nil {
		dial = (&net.Dialer{}).DialContext
	}
	conn, err := dial(ctx, "tcp", hostPort(k.c))
	if err != nil {
		return "", &adviceError{
			fmt.Sprintf("%s: %v", hostPort(k.c), err), "dial.tcp",
			"on the host `winrm enumerate winrm/config/listener` shows what listens, and Enable-PSRemoting makes a listener and its firewall rule",
		}
	}
	return conn.RemoteAddr().String(), conn.Close()
}

// kerberos gets a ticket for the host.
func (k *checkup) kerberos(ctx context.Context) {
	if k.broken {
		return
	}
	if k.login.tickets == nil {
		for _, name := range []string{"kdc", "tgt", "ticket"} {
			k.stage(name, func() (string, error) { return "the login is " + k.c.WinRM.Auth, errSkipped })
		}
		return
	}
	var seen trace
	traced := krb.WithTrace(ctx, seen.add)
	start := time.Now()
	err := k.login.tickets.Login(traced)
	took := time.Since(start)
	events := seen.take()
	kdc, answered := askedKDCs(events)
	if !answered && err != nil {
		k.end(Stage{Name: "kdc", Took: took}, err)
		return
	}
	k.end(Stage{Name: "kdc", Status: "ok", Took: took, Detail: kdc}, nil)
	k.stage("tgt", func() (string, error) { return ticketText(events, "tgt"), err })
	k.stage("ticket", func() (string, error) {
		w := k.login.wire
		_, err := w.Mechanism.Initiate(traced, gss.Target{Host: k.c.Address, SPN: w.SPN, Service: w.Service, Confidential: w.TLS == nil})
		return ticketText(seen.take(), "ticket"), err
	})
}

// trace keeps events of Kerberos. One may still come when the asker has left.
type trace struct {
	mu     sync.Mutex
	events []krb.Event
}

func (t *trace) add(e krb.Event) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.events = append(t.events, e)
}

// take returns what came since the last time.
func (t *trace) take() []krb.Event {
	t.mu.Lock()
	defer t.mu.Unlock()
	events := t.events
	t.events = nil
	return events
}

// askedKDCs tells which KDCs were asked, and whether one answered.
func askedKDCs(events []krb.Event) (string, bool) {
	var s []string
	answered := false
	for _, e := range events {
		switch {
		case e.What == "kdcs":
			if text := strings.Join(e.KDCs, ", ") + " (" + e.Source + ") for " + e.Realm; !slices.Contains(s, text) {
				s = append(s, text)
			}
		case e.What == "ask" && e.Err == nil:
			answered = true
			s = append(s, fmt.Sprintf("%s answers by %s in %s", e.KDC, e.Network, e.Took.Round(time.Millisecond/10)))
		case e.What == "ask":
			_, refused := krb.Cause(e.Err)
			answered = answered || refused
		}
	}
	return strings.Join(s, "; "), answered
}

// ticketText tells about the last ticket of a kind, and of the clock.
func ticketText(events []krb.Event, what string) string {
	text := ""
	var skew time.Duration
	for _, e := range events {
		if e.What == "clock" || e.What == "tgt" {
			skew = e.Skew
		}
		if e.What == what {
			text = fmt.Sprintf("%s, until %s", e.Etype, e.End.UTC().Format(time.RFC3339))
			if e.SPN != "" {
				text = "for " + e.SPN + "@" + e.Realm + ", " + text
			}
		}
	}
	if skew = skew.Round(time.Second); what == "tgt" && skew != 0 {
		text += fmt.Sprintf("; the KDC's clock is off by %s, which is corrected", skew)
	}
	return text
}

// host logs in to the device and asks what it is.
func (k *checkup) host(ctx context.Context) {
	if k.broken {
		return
	}
	start := time.Now()
	var err error
	if k.dev, err = k.login.device(k.c); err != nil {
		k.end(Stage{Name: "authentication"}, err)
		return
	}
	product, err := k.dev.Identify(ctx)
	took := time.Since(start)
	// With Kerberos the host has proven itself before it says anything; with a
	// password only its first answer tells that it was taken.
	proven := k.c.WinRM.Auth == "kerberos"
	if te, is := errors.AsType[*transport.Error](err); is && (!proven || te.Phase != transport.PhaseExec && te.Phase != transport.PhaseShell) {
		k.end(Stage{Name: "authentication", Took: took}, err)
		return
	}
	p := k.dev.Peer()
	k.end(Stage{Name: "authentication", Status: "ok", Took: took, Detail: strings.TrimSpace("as " + who(k.c) + " to " + p.Identity)}, nil)
	k.end(Stage{Name: "identify", Status: "ok", Detail: strings.TrimSpace(product.Vendor + " " + product.Version)}, err)
}

// shell opens a shell, and looks at the device from there.
func (k *checkup) shell(ctx context.Context) {
	if k.broken {
		return
	}
	var conn transport.Conn
	k.stage("shell", func() (detail string, err error) {
		conn, err = k.d.WinRM.Dial(ctx, winConfig(k.c, k.dev))
		return k.c.WinRM.Shell + " " + k.c.WinRM.Configuration, err
	})
	if k.broken {
		return
	}
	defer conn.Close()
	k.stage("pipeline", func() (string, error) {
		res, err := executor.Do(ctx, executor.Run{
			Conn: conn, Modules: k.reg, Timeout: k.c.Step, ID: "device-check", Env: lang.Env{},
			After: []executor.Call{{Name: "facts", Module: k.reg.Lookup("win_facts"), Args: module.Args{}}},
		})
		if err != nil {
			return "", err
		}
		k.facts = res.Calls["facts"]
		return fmt.Sprintf("%s %v, PowerShell %v", k.facts["os"], k.facts["version"], k.facts["powershell"]), nil
	})
	k.stage("language", func() (string, error) { return fmt.Sprint(k.facts["language_mode"]), nil })
	k.stage("rights", k.rights)
}

// rights says whether the session could manage local accounts.
func (k *checkup) rights() (string, error) {
	user := fmt.Sprint(k.facts["user"])
	switch {
	case k.facts["controller"] == true:
		return "", &adviceError{"the device is a domain controller, which has no local accounts", "rights.controller", "make accounts in the domain instead"}
	case k.facts["local_accounts"] != true:
		return "", &adviceError{
			"the cmdlets for local accounts are not there", "rights.cmdlets",
			"they come with Server 2016, Windows 10 and later; on a JEA endpoint its role capability file has to allow them",
		}
	case k.facts["administrator"] != true:
		return "", &adviceError{
			user + " has no rights of an administrator there", "rights.administrator",
			"put the account into Administrators of the host, or use an endpoint that runs as a virtual account: inventories/windows-jit-endpoint",
		}
	}
	return "as " + user + ", with the rights of an administrator", nil
}
