package psrp

import (
	"errors"

	"runner/engine/transport/winrm/clixml"
)

// Pipeline is what a server is asked to run: commands that feed each other.
type Pipeline struct {
	Commands []Command
	// Input says that values are sent to the first command afterwards.
	Input bool
}

// Command is a script, or a command by its name. Endpoints without a language
// take only the latter.
type Command struct {
	Text   string
	Script bool
	// Local gives a script a scope of its own, so that it leaves nothing behind
	// in the runspace.
	Local bool
	// MergeErrors sends errors to the output, too.
	MergeErrors bool
	Parameters  []Parameter
}

// Parameter is an argument. One without a name is bound by its position; a
// switch is true.
type Parameter struct {
	Name  string
	Value any
}

const (
	listOfObjects = "System.Collections.Generic.List`1[[System.Management.Automation.PSObject, System.Management.Automation, Version=1.0.0.0, Culture=neutral, PublicKeyToken=31bf3856ad364e35]]"
	mergeType     = "System.Management.Automation.Runspaces.PipelineResultTypes"
)

var merges = []string{"MergeMyResult", "MergeToResult", "MergePreviousResults", "MergeError", "MergeWarning", "MergeVerbose", "MergeDebug", "MergeInformation"}

func apartment() *clixml.Object {
	return clixml.Enum("System.Management.Automation.Runspaces.ApartmentState", "UNKNOWN", 2)
}

func objects(items []any) *clixml.Object {
	return &clixml.Object{Types: []string{listOfObjects, "System.Object"}, Base: clixml.List{Items: items}}
}

// object returns p as CREATE_PIPELINE has it ([MS-PSRP] 2.2.2.10).
func (p Pipeline) object() *clixml.Object {
	var cmds []any
	for _, c := range p.Commands {
		cmds = append(cmds, c.object())
	}
	return clixml.Note(
		member("NoInput", !p.Input), member("ApartmentState", apartment()),
		member("RemoteStreamOptions", clixml.Enum("System.Management.Automation.Runspaces.RemoteStreamOptions", "0", 0)),
		member("AddToHistory", false), member("HostInfo", nullHost()),
		member("PowerShell", clixml.Note(
			member("IsNested", false), member("ExtraCmds", nil), member("Cmds", objects(cmds)), member("History", nil), member("RedirectShellErrorOutputPipe", false),
		)),
		member("IsNested", false),
	)
}

func (c Command) object() *clixml.Object {
	var args []any
	for _, a := range c.Parameters {
		var name any
		if a.Name != "" {
			name = a.Name
		}
		args = append(args, clixml.Note(member("N", name), member("V", a.Value)))
	}
	var local any
	if c.Local {
		local = true
	}
	o := clixml.Note(member("Cmd", c.Text), member("IsScript", c.Script), member("UseLocalScope", local), member("Args", objects(args)))
	for _, name := range merges {
		kind := clixml.Enum(mergeType, "None", 0)
		switch {
		case c.MergeErrors && name == "MergeMyResult":
			kind = clixml.Enum(mergeType, "Error", 2)
		case c.MergeErrors && name == "MergeToResult":
			kind = clixml.Enum(mergeType, "Output", 1)
		}
		o.Extended = append(o.Extended, member(name, kind))
	}
	return o
}

var errPipeline = errors.New("psrp: a pipeline without commands")

// readPipeline reads CREATE_PIPELINE.
func readPipeline(v any) (Pipeline, error) {
	p := Pipeline{Input: !clixml.Bool(clixml.Get(v, "NoInput"))}
	cmds, ok := clixml.Items(clixml.Get(v, "PowerShell", "Cmds"))
	if !ok || len(cmds) == 0 {
		return p, errPipeline
	}
	for _, o := range cmds {
		c := Command{
			Text: clixml.Text(clixml.Get(o, "Cmd")), Script: clixml.Bool(clixml.Get(o, "IsScript")), Local: clixml.Bool(clixml.Get(o, "UseLocalScope")),
		}
		n, _ := clixml.Int(clixml.Get(o, "MergeMyResult"))
		c.MergeErrors = n&2 != 0
		args, _ := clixml.Items(clixml.Get(o, "Args"))
		for _, a := range args {
			c.Parameters = append(c.Parameters, Parameter{Name: clixml.Text(clixml.Get(a, "N")), Value: clixml.Get(a, "V")})
		}
		p.Commands = append(p.Commands, c)
	}
	return p, nil
}

// NeedsKeys reports whether the pipeline carries secrets: then the keys have to
// be exchanged before it is started.
func (p Pipeline) NeedsKeys() bool {
	for _, c := range p.Commands {
		for _, a := range c.Parameters {
			if clixml.HasSecret(a.Value) {
				return true
			}
		}
	}
	return false
}
