// Package module owns what a step can do: one file per module with its typed
// arguments and outputs, the objects it may change and how each is undone, and
// its constant body in the language of the device. It refuses to open
// connections and to read templates: a module is data, run by the executor
// through a transport, except for the few that run on the controller.
package module

import (
	"context"
	"fmt"
	"time"

	"runner/engine/lang"
)

// Field describes an argument or an output.
type Field struct {
	Name     string
	Type     lang.Type
	Required bool
	Default  any      // string, bool, int64, []string, nil; of the field's type
	Enum     []string // allowed values of a string
	Doc      string   // one line, for help, schema and messages
	Example  string   // YAML, as an author writes it
	// Constant says that the value is written as it is, without {{ }}: a program
	// text, into which no value may be spliced.
	Constant bool
	// Pairs says that the value is a map, written out, of names of variables of
	// the environment to texts. The body finds the names in it, and the values in
	// _e1, _e2, and so on.
	Pairs bool
}

// Args are the decoded arguments of a step, complete with defaults: string,
// bool, int64, float64, time.Duration, time.Time, secret.Value, []string,
// []any or map[string]any. Arguments that only the device knows yet are absent.
type Args map[string]any

// String returns the text of an argument or "".
func (a Args) String(name string) string { s, _ := a[name].(string); return s }

// Bool returns an argument or false.
func (a Args) Bool(name string) bool { b, _ := a[name].(bool); return b }

// Int returns an argument or 0.
func (a Args) Int(name string) int64 { n, _ := a[name].(int64); return n }

// List returns an argument or nil.
func (a Args) List(name string) []string { l, _ := a[name].([]string); return l }

// Undo is the call that takes a change back.
type Undo struct {
	Module string         `json:"module"`
	Args   map[string]any `json:"args"` // string, bool, int64, []string; never a secret
	// Become is the account that takes it back; nil: that of the removal.
	Become *string `json:"become,omitempty"`
	// Restore names the argument that is given the state before. Such an undo is
	// right whatever that state was; another one only for "absent".
	Restore string `json:"restore,omitempty"`
}

// Object is one thing on a device that a step may change. Its state is an
// opaque text that the body reports: "absent", or something that is equal
// exactly when the object is as it was.
type Object struct {
	// ID names the object: "linux:user:jit-abc", "linux:file:/etc/sudoers.d/x",
	// "linux:member:wheel/jit-abc". Unique per device.
	ID string
	// Undo takes the change back; nil when the step only removes things or its
	// effect cannot be undone by a module. It is right only for an object whose
	// state was "absent" before: what was there before stays.
	Undo *Undo
	// Shared says that several grants may want the object at a time, such as a
	// membership. Then it is counted who does, and the last of them undoes what the
	// first one changed.
	Shared bool
}

// Module is something a step can call.
type Module struct {
	Name    string
	Summary string // one line
	// Examples are steps as authors write them, without the dash. A test runs
	// each of them on a machine.
	Examples []string
	Platform string // "linux", or "" for every platform
	Args     []Field
	Outputs  []Field
	// Free is the argument that receives the value when it is written as a bare
	// string: `shell: echo hi`.
	Free string
	// Script names the arguments whose text is a program of the author: {{ }}
	// in it is bound as a variable and never spliced.
	Script string
	// Others are arguments that modules of this kind have elsewhere, and what does
	// the same here.
	Others map[string]string
	// ReadOnly modules never change a device; they run in probe and check mode.
	ReadOnly bool
	// NeedsUndo is true for modules whose effects nobody can know (shell).
	NeedsUndo bool
	// Check refuses arguments that are wrong whatever the device says. Absent
	// arguments are not known yet.
	Check func(Args) error
	// Objects lists what the step may change, in the order in which the body
	// reports their states with `_state INDEX TEXT`. nil: nothing.
	Objects func(Args) []Object
	// Sh is the body in POSIX sh, for devices reached over SSH; see
	// engine/module/README.md for what it may use. Empty: not on such devices.
	Sh string
	// Ps is the body in PowerShell, for Windows. A module has one or the other.
	Ps string
	// Unreached names functions of the body that a call with these arguments never
	// comes to, so that they need not be sent. Absent arguments are not known yet.
	Unreached func(Args) []string
	// Control runs the module on the controller instead of on the device.
	Control func(context.Context, Control) (Outcome, error)

	calls   func() []string // definitions that Sh itself names
	library library         // those of all bodies
}

// Body returns the program that runs on the device, "" when there is none.
func (m *Module) Body() string { return m.Sh + m.Ps }

// Control is what a module on the controller is given.
type Control struct {
	Args Args
	Now  func() time.Time
	// Wait returns after d or with the context's error.
	Wait func(context.Context, time.Duration) error
}

// Outcome is what a module on the controller reports.
type Outcome struct {
	Changed bool
	Failed  bool
	Message string
	Outputs map[string]any
}

// Common are the result fields that every registered step has besides its
// module's outputs.
var Common = []Field{
	{Name: "rc", Type: lang.Int, Doc: "exit status; 0 when skipped"},
	{Name: "stdout", Type: lang.String, Doc: "standard output, without the last newline; at most 1 MiB"},
	{Name: "stderr", Type: lang.String, Doc: "standard error, likewise"},
	{Name: "stdout_lines", Type: lang.ListOf(lang.String), Doc: "stdout, line by line"},
	{Name: "changed", Type: lang.Bool, Doc: "the step changed something"},
	{Name: "failed", Type: lang.Bool, Doc: "the step failed"},
	{Name: "skipped", Type: lang.Bool, Doc: "the step did not run"},
	{Name: "ran", Type: lang.Bool, Doc: "the step ran"},
	{Name: "attempts", Type: lang.Int, Doc: "how often the body ran"},
	{Name: "msg", Type: lang.String, Doc: "what the module says about it"},
	{Name: "started_at", Type: lang.Time, Doc: "when it began; the year 1 when skipped"},
	{Name: "duration_ms", Type: lang.Int, Doc: "milliseconds from begin to end"},
}

// Registry is the set of modules that templates may call.
type Registry struct {
	byName map[string]*Module
	order  []*Module
}

// NewRegistry returns a registry of ms. It fails when two have one name.
func NewRegistry(ms ...*Module) (*Registry, error) {
	r := &Registry{byName: map[string]*Module{}}
	for _, m := range ms {
		if r.byName[m.Name] != nil {
			return nil, fmt.Errorf("module: two modules are named %q", m.Name)
		}
		r.byName[m.Name] = m
		r.order = append(r.order, m)
	}
	return r, nil
}

// Lookup returns the module of that name, or nil.
func (r *Registry) Lookup(name string) *Module { return r.byName[name] }

// All returns the modules in the order of their registration.
func (r *Registry) All() []*Module { return r.order }
