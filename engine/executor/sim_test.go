package executor_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"testing"
	"time"

	"runner/engine/executor"
	"runner/engine/lang"
	"runner/engine/module"
	"runner/engine/template"
	"runner/engine/transport"
)

// device is a simulated target: objects with states, and bodies in Go. It
// decides conditions with transport.Holds, which every renderer agrees with.
type device struct {
	objects map[string]string
	batches []transport.Batch
	applied []string // objects in the order in which they were changed
	cutAt   int      // the connection is lost when step cutAt has begun; 0: never
	deadAt  int      // the connection refuses this batch (from 1) before it is sent; 0: none
	watch   int      // tenths of seconds
	slow    int      // how much later a batch begins than it was sent, in tenths
	after   bool     // the change of cutAt is made all the same
}

type call struct {
	mode  transport.Mode
	args  map[string]string
	out   map[string]string
	state []string // of object 0, in the order in which it was said
}

func (d *device) Peer() transport.Peer { return transport.Peer{Address: "sim:1", Identity: "SHA256:x"} }
func (d *device) Close() error         { return nil }

func (d *device) Run(_ context.Context, b transport.Batch, sink transport.Sink) error {
	d.batches = append(d.batches, b)
	if d.deadAt == len(d.batches) {
		return &transport.Error{Phase: transport.PhaseExec, Device: "sim", SafeToRetry: true, Step: -1, Err: errors.New("no channel")}
	}
	said := map[int]map[string]string{}
	get := func(r transport.Ref) string {
		if v, ok := said[r.Step][r.Key]; ok {
			return v
		}
		return r.Default
	}
	failed := false
	at := time.Unix(1000, 0)
	for _, s := range b.Steps {
		at = at.Add(time.Second)
		if failed {
			sink(transport.Event{Kind: transport.Skipped, Step: s.N, Reason: "failed"})
			continue
		}
		if !transport.Holds(s.When, get) {
			said[s.N] = map[string]string{"skipped": "true", "ran": "false", "changed": "false", "failed": "false"}
			sink(transport.Event{Kind: transport.Skipped, Step: s.N, Reason: "when"})
			continue
		}
		sink(transport.Event{Kind: transport.Began, Step: s.N, At: at})
		c := &call{mode: s.Mode, args: map[string]string{}, out: map[string]string{}}
		for _, a := range s.Args {
			c.args[a.Name] = transport.TextOf(a.Value, get)
		}
		if d.cutAt == s.N && s.Mode == transport.Apply {
			if d.after {
				d.do(s.Body.Name, c)
			}
			return &transport.Error{Phase: transport.PhaseExec, Device: "sim", Step: s.N, Err: errors.New("connection lost")}
		}
		var (
			rc            int
			changed, fail bool
		)
		for tries := 1; ; tries++ {
			c.out, c.state = map[string]string{}, nil
			rc = d.do(s.Body.Name, c)
			changed, fail = c.out["_changed"] == "true", rc != 0
			said[s.N] = maps.Clone(c.out)
			maps.Copy(said[s.N], map[string]string{"rc": strconv.Itoa(rc), "changed": strconv.FormatBool(changed), "failed": strconv.FormatBool(fail), "ran": "true", "skipped": "false", "attempts": strconv.Itoa(tries)})
			if s.ChangedWhen != nil {
				changed = transport.Holds(s.ChangedWhen, get)
			}
			if s.FailedWhen != nil {
				fail = transport.Holds(s.FailedWhen, get)
			}
			if s.Until != nil {
				fail = !transport.Holds(s.Until, get)
			}
			said[s.N]["changed"], said[s.N]["failed"] = strconv.FormatBool(changed), strconv.FormatBool(fail)
			tell(sink, s.N, c)
			if s.Until == nil || !fail || tries > s.Retries {
				break
			}
			sink(transport.Event{Kind: transport.Retried, Step: s.N, Attempts: tries})
		}
		sink(transport.Event{Kind: transport.Ended, Step: s.N, At: at.Add(time.Millisecond), RC: rc, Changed: changed, Failed: fail, Attempts: 1})
		if fail && !s.Continue {
			failed = true
		}
	}
	return nil
}

// tell hands on what a body said.
func tell(sink transport.Sink, n int, c *call) {
	if o := c.out["_stdout"]; o != "" {
		sink(transport.Event{Kind: transport.Output, Step: n, Stream: transport.Stdout, Data: []byte(o)})
	}
	for k, v := range c.out {
		if !strings.HasPrefix(k, "_") {
			sink(transport.Event{Kind: transport.Fact, Step: n, Key: k, Value: v})
		}
	}
	for _, st := range c.state {
		sink(transport.Event{Kind: transport.Fact, Step: n, Key: "state.0", Value: st})
	}
}

// do is what the bodies of the test modules do.
func (d *device) do(body string, c *call) int {
	switch body {
	case "put": // make the object name hold value
		id := "obj:" + c.args["name"]
		st := d.state(id)
		c.state = []string{st}
		if want := c.args["value"]; c.mode == transport.Apply && st != want {
			c.out["_changed"] = "true"
			d.applied = append(d.applied, id)
			if d.objects[id] = want; want == "absent" {
				delete(d.objects, id)
			}
			switch c.args["how"] {
			case "half": // fails when it has acted and says no more
				return 4
			case "mute": // says the state once, when it has acted
				c.state = nil
			}
			st = want
			c.state = append(c.state, st)
		}
		c.out["value"] = st
		c.out["exists"] = strconv.FormatBool(st != "absent")
		c.out["size"] = strconv.Itoa(len(st))
	case "say":
		c.out["_stdout"] = c.args["text"] + "\n"
		if c.args["text"] == "boom" {
			return 3
		}
	case "shell": // make, spoil or remove the object that _r1 names
		if c.mode != transport.Apply {
			break
		}
		c.out["_changed"] = "true"
		id := "obj:" + c.args["_r1"]
		switch verb, _, _ := strings.Cut(c.args["cmd"], " "); verb {
		case "make":
			d.objects[id] = "made"
		case "spoil":
			d.objects[id] = "half"
			return 4
		case "remove":
			delete(d.objects, id)
		}
	case "deadline": // its watch is d.watch tenths on, and goes on with each look
		d.watch += d.slow
		c.out["now"] = "t" + strconv.Itoa(d.watch)
		if before, err := strconv.Atoi(strings.TrimPrefix(c.args["before"], "t")); err == nil && d.watch >= before {
			return 1
		}
	case "list":
		var names []string
		for k := range d.objects {
			names = append(names, k)
		}
		c.out["items"] = strings.Join(names, "\n")
	}
	return 0
}

func (d *device) state(id string) string {
	if st := d.objects[id]; st != "" {
		return st
	}
	return "absent"
}

func registry(t *testing.T) *module.Registry {
	t.Helper()
	str := func(n string, req bool) module.Field {
		return module.Field{Name: n, Type: lang.String, Required: req, Doc: n + "."}
	}
	r, err := module.NewRegistry(
		&module.Module{
			Name: "put", Summary: "s", Platform: "linux", Args: []module.Field{str("name", true), str("value", true), str("how", false)},
			Outputs: []module.Field{{Name: "value", Type: lang.String}, {Name: "exists", Type: lang.Bool}, {Name: "size", Type: lang.Int}}, Sh: "put",
			Objects: func(a module.Args) []module.Object {
				return []module.Object{{ID: "obj:" + a.String("name"), Undo: &module.Undo{Module: "put", Args: map[string]any{"name": a.String("name"), "value": "absent"}}}}
			},
		},
		&module.Module{Name: "say", Summary: "s", Platform: "linux", Args: []module.Field{str("text", true)}, Free: "text", ReadOnly: true, Sh: "say"},
		&module.Module{Name: "shell", Summary: "s", Platform: "linux", Args: []module.Field{str("cmd", true)}, Free: "cmd", Script: "cmd", NeedsUndo: true, Sh: "shell"},
		&module.Module{Name: "list", Summary: "s", Platform: "linux", ReadOnly: true, Sh: "list", Outputs: []module.Field{{Name: "items", Type: lang.ListOf(lang.String)}}},
		&module.Module{
			Name: "note", Summary: "s", Args: []module.Field{str("text", true)}, Free: "text",
			Control: func(_ context.Context, c module.Control) (module.Outcome, error) {
				return module.Outcome{Message: c.Args.String("text")}, nil
			},
		},
		&module.Module{
			Name: "revert", Summary: "s", Args: []module.Field{{Name: "of", Type: lang.String}, {Name: "except", Type: lang.ListOf(lang.String)}, {Name: "conflict", Type: lang.String}},
			Outputs: []module.Field{{Name: "undone", Type: lang.ListOf(lang.String)}, {Name: "conflicts", Type: lang.ListOf(lang.String)}},
		},
	)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func load(t *testing.T, reg *module.Registry, kind, steps string) *template.Template {
	t.Helper()
	text := "schema: runner/v1\nkind: " + kind + "\nname: t\nplatform: linux\n"
	if kind == "create" {
		text += "removal: t\n"
	}
	text += "params:\n  name: {type: string, default: a}\n  on: {type: bool, default: true}\nsteps:\n" + steps
	tpl, ps := template.LoadWith(kind+"/t.yaml", []byte(text), shelf, reg)
	if err := ps.Err(); err != nil {
		t.Fatalf("%v", err)
	}
	return tpl
}

func start(t *testing.T, d *device, kind, steps string, change func(*executor.Run)) (*executor.Result, error) {
	t.Helper()
	reg := registry(t)
	tpl := load(t, reg, kind, steps)
	r := executor.Run{
		Steps: tpl.Steps, Env: lang.Env{
			"params": map[string]any{"name": "a", "on": true},
			"grant":  map[string]any{"id": "g-1", "account": "a"}, "device": map[string]any{"name": "sim"},
			"created": map[string]any{"known": false, "outputs": map[string]any{}},
		},
		Conn: d, Modules: reg, ID: "x-1",
	}
	if change != nil {
		change(&r)
	}
	return executor.Do(t.Context(), r)
}

func newDevice() *device { return &device{objects: map[string]string{}} }

// notes is a recorder that remembers what it was told and when.
type notes struct {
	d      *device
	log    []string
	refuse bool
	last   map[string]executor.Change
}

func (n *notes) Intend(_ context.Context, cs []executor.Change) error {
	if n.refuse {
		return errors.New("disk full")
	}
	for _, c := range cs {
		n.log = append(n.log, fmt.Sprintf("intend %s before=%s sent=%d", c.Object, c.Before, len(n.d.applied)))
		n.keep(c)
	}
	return nil
}

func (n *notes) Complete(_ context.Context, cs []executor.Change) error {
	for _, c := range cs {
		n.log = append(n.log, fmt.Sprintf("%s %s after=%s", c.State, c.Object, c.After))
		n.keep(c)
	}
	return nil
}

func (n *notes) keep(c executor.Change) {
	if n.last == nil {
		n.last = map[string]executor.Change{}
	}
	n.last[c.Object] = c
}

// watch is an observer that remembers what it was told.
type watch struct{ log []string }

func (w *watch) Began(n int, name string, _ time.Time) {
	w.log = append(w.log, fmt.Sprintf("began %d %s", n, name))
}
func (w *watch) Output(int, transport.Stream, time.Time, []byte) {}
func (w *watch) Ended(r executor.StepResult)                     { w.log = append(w.log, fmt.Sprintf("ended %d", r.N)) }

func (w *watch) Note(n int, text string) { w.log = append(w.log, fmt.Sprintf("note %d %s", n, text)) }
