package ssh

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"runner/engine/lab"
	"runner/engine/lab/labtest"
	"runner/engine/secret"
	"runner/engine/transport"
)

// machine starts a lab machine for the test.
func machine(t *testing.T, shell string) *lab.Machine {
	t.Helper()
	return labtest.StartT(t, lab.Config{Shell: shell})
}

// dialer returns a Dialer that ends with the test.
func dialer(t *testing.T) *Dialer {
	t.Helper()
	d := &Dialer{}
	t.Cleanup(func() { _ = d.Close() })
	return d
}

// config logs in at m as user with the admin key.
func config(t *testing.T, m *lab.Machine, user string) Config {
	t.Helper()
	key, err := os.ReadFile(m.KeyFile())
	if err != nil {
		t.Fatal(err)
	}
	return Config{
		Address:  m.Addr,
		User:     user,
		Auth:     Auth{PrivateKey: secret.New(string(key))},
		HostKeys: HostKeys{Known: []string{m.HostKey}},
	}
}

// connTo dials and closes with the test.
func connTo(t *testing.T, d *Dialer, cfg Config) transport.Conn {
	t.Helper()
	c, err := d.Dial(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// record keeps events; it may be read while they come.
type record struct {
	mu     sync.Mutex
	events []transport.Event
	began  chan int // gets the number of each step that begins, when not nil
}

func (r *record) sink(e transport.Event) {
	e.Data = append([]byte(nil), e.Data...)
	r.mu.Lock()
	r.events = append(r.events, e)
	r.mu.Unlock()
	if r.began != nil && e.Kind == transport.Began {
		r.began <- e.Step
	}
}

// output joins what step n wrote to s.
func (r *record) output(n int, s transport.Stream) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var b strings.Builder
	for _, e := range r.events {
		if e.Step == n && e.Stream == s && (e.Kind == transport.Output || e.Kind == transport.Preamble) {
			b.Write(e.Data)
		}
	}
	return b.String()
}

// fact returns the last fact of step n with that key.
func (r *record) fact(n int, key string) (string, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	v, ok := "", false
	for _, e := range r.events {
		if e.Kind == transport.Fact && e.Step == n && e.Key == key {
			v, ok = e.Value, true
		}
	}
	return v, ok
}

// trace writes the events without output, facts as key=value.
func (r *record) trace() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []string
	for _, e := range r.events {
		switch e.Kind {
		case transport.Began:
			out = append(out, fmt.Sprintf("B%d", e.Step))
		case transport.Fact:
			out = append(out, fmt.Sprintf("F%d %s=%s", e.Step, e.Key, e.Value))
		case transport.Retried:
			out = append(out, fmt.Sprintf("R%d %d", e.Step, e.Attempts))
		case transport.Ended:
			s := fmt.Sprintf("E%d rc=%d", e.Step, e.RC)
			for _, f := range []struct {
				is  bool
				say string
			}{{e.Changed, " changed"}, {e.Failed, " failed"}, {e.TimedOut, " timeout"}, {e.TooMuch, " toomuch"}, {e.Attempts != 1, fmt.Sprintf(" attempts=%d", e.Attempts)}} {
				if f.is {
					s += f.say
				}
			}
			out = append(out, s)
		case transport.Skipped:
			out = append(out, fmt.Sprintf("S%d %s", e.Step, e.Reason))
		case transport.Output, transport.Preamble:
		}
	}
	return strings.Join(out, "; ")
}

// sh is a step whose body is text.
func sh(n int, text string, args ...transport.Arg) transport.Step {
	return transport.Step{N: n, Name: fmt.Sprint("step ", n), Body: transport.Body{Name: fmt.Sprintf("t%d", n), Text: text}, Args: args}
}

func arg(name string, v any) transport.Arg {
	if val, ok := v.(transport.Value); ok {
		return transport.Arg{Name: name, Value: val}
	}
	return transport.Arg{Name: name, Value: transport.Lit{V: v}}
}

// code returns the code of a transport error, or the error's text.
func code(err error) string {
	if te, ok := errors.AsType[*transport.Error](err); ok {
		return te.Code
	}
	return fmt.Sprint(err)
}

// sudoConfig logs in as user and becomes root through sudo.
func sudoConfig(t *testing.T, m *lab.Machine, user string) Config {
	t.Helper()
	cfg := config(t, m, user)
	cfg.Become = Become{Method: BecomeSudo, User: "root"}
	if user == "jitpw" {
		cfg.Become.Password = secret.New(m.Password(user))
	}
	return cfg
}

// labMachine starts a machine with accounts of its own.
func labMachine(t *testing.T, cfg lab.Config) *lab.Machine {
	t.Helper()
	return labtest.StartT(t, cfg)
}

// accepted checks that n logins were let in. sshd writes the line of a login
// after it has answered, so the last one may still be on its way.
func accepted(t *testing.T, m *lab.Machine, n int) {
	t.Helper()
	late, tick := time.After(5*time.Second), time.NewTicker(10*time.Millisecond)
	defer tick.Stop()
	for strings.Count(m.Log(), "Accepted") < n {
		select {
		case <-tick.C:
			continue
		case <-late:
		}
		break
	}
	if log := m.Log(); strings.Count(log, "Accepted") != n {
		t.Errorf("%d logins are wanted:\n%s", n, log)
	}
}
