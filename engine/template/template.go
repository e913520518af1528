// Package template owns the YAML of templates: it reads them, checks them and
// explains what is wrong with file, line and column. Loading is checking: a
// template that has a problem is never returned. It refuses to run anything.
package template

import (
	"regexp"
	"time"

	"runner/engine/lang"
	"runner/engine/module"
)

// Kind is what a template does; it is also the folder it lies in.
type Kind string

// Kinds of templates.
const (
	Create  Kind = "create"
	Delete  Kind = "delete"
	Elevate Kind = "elevate"
)

// Template is a checked template.
type Template struct {
	Kind         Kind
	Name         string
	Description  string
	Platform     string // linux, windows, ...
	Enabled      bool
	Executor     string        // native
	Removal      string        // create only: name of the delete template that undoes it
	Become       string        // account the steps run as; empty: the login account
	Timeout      time.Duration // default per step; 0: 60s
	OnDisconnect string        // stop (default) or continue (default of delete)
	OnFailure    string        // revert (default) or keep; of delete always keep
	Params       []Param
	Vars         []Var
	Steps        []*Step
	Revert       []*Step // elevate only
	Renew        []*Step // moves the device's own expiries when a grant is extended
	Outputs      []Output

	File   string // as it is shown in messages
	Origin string // shipped or workspace
	Hash   string // hex SHA-256 of Body
	Body   []byte // with the files that it includes
	// Includes are the files that it includes, as they are shown in messages.
	Includes []string

	// Warnings are what is probably not meant: none keeps it from being used.
	Warnings lang.Problems

	removalAt *lang.Node    // where Removal is written
	reads     []createdRead // what is read of created
}

// Param is a value that a template takes.
type Param struct {
	Name     string
	Type     lang.Type
	Doc      string
	Optional bool        // may be absent: then it is the type's zero value
	Default  *lang.Value // nil: none
	Enum     []string    // strings only
	Pattern  string      // strings only: RE2, must match the whole value
	Path     bool        // strings only: must be an absolute path
	Min, Max *int64      // int: value; string, list: length
	Generate *Generate   // secrets only: made when absent
	From     string      // who alone may set it: credential, request or grant; empty: a request or the credential
	Pos      lang.Pos

	regexp func() (*regexp.Regexp, error) // of Pattern, whole; compiled once
}

// Generate says how a secret is made.
type Generate struct {
	Length  int      // default 24
	Classes []string // of lower, upper, digit, symbol; at least one of each is used
	Exclude string   // characters that are left out
}

// Var is a value that is evaluated once, before the steps, and kept with the grant.
type Var struct {
	Name  string
	Value *lang.Value
}

// Output is a value that a template hands on: to the grant, and through
// created.outputs to its removal.
type Output struct {
	Name  string
	Value *lang.Expr
	Type  lang.Type
	Pos   lang.Pos
}

// Step is one entry of a template: a module call, or a block.
type Step struct {
	Name     string
	Pos      lang.Pos
	Register string // name of its result, or empty
	Module   *module.Module
	Args     map[string]*lang.Value // written arguments without those of Scripts, type-checked; defaults are in Module
	// Scripts holds, for each argument of Module.Script, the text with every
	// {{ }} replaced by ${_rN} and the values those variables are bound to.
	Scripts map[string]Script

	// Env are the variables of the environment of a program, checked.
	Env []Given

	// Vars are values for this step, first those of the blocks around it.
	Vars        []Var
	Loop        *Loop // nil: once
	When        *lang.Expr
	Until       *lang.Expr
	Retries     int           // after the first try; with Until at least 1, default 3; else 0
	Delay       time.Duration // between tries; default 1s
	Backoff     int           // the pause is multiplied by it after each try
	MaxDelay    time.Duration // longest pause; with Backoff
	Timeout     time.Duration // 0: the template's
	ChangedWhen *lang.Expr
	FailedWhen  *lang.Expr
	OnError     string  // fail (default) or continue
	Become      *string // nil: the template's
	NoLog       bool
	Tags        []string
	// Undo undoes a step whose module cannot know how: a shell script.
	Undo *Script
	// Probe tells whether what such a step makes is there. It needs Undo.
	Probe *Script
	// Asserts are the conditions of a step that calls assert; its Args are empty.
	Asserts []Assert
	// Outputs are the outputs of the module; of set_fact the keys of the step.
	Outputs []module.Field

	node *lang.Node // as written
	what string     // what messages call it

	// Include makes the step run the steps of a file, which are in Block; Module is
	// nil then. It may have Register, and its Outputs are those of the file.
	Include *Include
	// Block, Rescue and Always make the step a block; Module is nil then.
	Block, Rescue, Always []*Step
}

// Assert is one condition that has to hold, evaluated on the controller.
type Assert struct {
	That *lang.Expr
	Msg  *lang.Value // nil: none written
}

// Script is an author's program with its values bound outside it.
type Script struct {
	Text  string
	Binds []*lang.Value // _r1, _r2, ...
}
