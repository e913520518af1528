package winrm_test

import (
	"context"
	"sync/atomic"
	"testing"
	"unicode/utf8"

	"runner/engine/transport"
	"runner/engine/transport/transporttest"
	"runner/engine/transport/winrm"
	"runner/engine/transport/winrm/runspace"
	"runner/engine/transport/winrm/winrmtest"
)

// device is a Host as a Device.
type device struct {
	*winrmtest.Host
	win      *winrmtest.Windows
	name     string
	released *atomic.Int32
}

func newDevice(name string) *device {
	w := &winrmtest.Windows{}
	return &device{Host: &winrmtest.Host{Handler: w.Handle}, win: w, name: name, released: &atomic.Int32{}}
}

func (d *device) Key() string { return d.name }
func (d *device) Release()    { d.released.Add(1) }
func (d *device) Peer() transport.Peer {
	return transport.Peer{Address: d.name + ":5985", Identity: "HTTP/" + d.name, Software: "Windows"}
}

func (d *device) Open(ctx context.Context, id string, creationXML []byte) (runspace.Shell, error) {
	return d.Host.Open(ctx, id, creationXML)
}

// dialTo returns a connection that ends with the test.
func dialTo(t *testing.T, d *device, cfg winrm.Config) transport.Conn {
	t.Helper()
	dialer := &winrm.Dialer{}
	t.Cleanup(func() { _ = dialer.Close() })
	cfg.Device, cfg.Address = d, d.name+":5985"
	c, err := dialer.Dial(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func body(name, text string) transport.Body { return transport.Body{Name: name, Text: text} }

var psBodies = transporttest.Bodies{
	Mode:   body("mode", `_write ($M + [char]10)`),
	Echo:   body("echo", `_write $a.text`),
	Warn:   body("warn", `_warn $a.text`),
	Fact:   body("fact", `_out 'value' $a.text`),
	Change: body("change", "_changed\n_state 0 'present'"),
	Fail:   body("fail", `_fail 3 'on purpose'`),
	Hang:   body("hang", `while ($true) { Start-Sleep -Milliseconds 1000 }`),
}

func TestConformance(t *testing.T) {
	t.Parallel()
	transporttest.Suite(t, func(t *testing.T) transport.Conn {
		t.Helper()
		return dialTo(t, newDevice("win1"), winrm.Config{})
	}, psBodies)
}

// Whatever the condition and the values, the script decides as Holds does.
func TestDeviceDecidesAsWeDo(t *testing.T) {
	t.Parallel()
	transporttest.Agree(t, dialTo(t, newDevice("win1"), winrm.Config{}), transporttest.Deciding{
		Facts: body("facts", "_out 'k0' $a.k0\n_out 'k1' $a.k1\n_out 'k2' $a.k2\n_changed\n_fail 7 'on purpose'"),
		Tell:  body("tell", "_out 'v' $a.v"),
		Never: body("never", "_out 'k0' 'x'"),
		Holds: utf8.ValidString,
	})
}
