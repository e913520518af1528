package psrp

import (
	"runner/engine/transport/winrm/clixml"
)

// HostMethod is a call to the host of a runspace ([MS-PSRP] 2.2.3.17).
type HostMethod int32

// The methods that something is done about. The others have numbers only.
const (
	HostSetShouldExit HostMethod = 6
	HostReadLine      HostMethod = 11
)

// tells are the methods that only tell the host something: no answer is waited
// for.
var tells = map[HostMethod]bool{
	HostSetShouldExit: true, 7: true, 8: true, 9: true, 10: true, // nested prompts, applications
	13: true, 14: true, 15: true, 16: true, 17: true, 18: true, 19: true, 20: true, 21: true, 22: true, // Write…
	28: true, 30: true, 32: true, 34: true, 36: true, 38: true, 40: true, 42: true, // colours, sizes, title
	47: true, 48: true, 49: true, 51: true, 52: true, 53: true, // buffers, pushing runspaces
}

// HostCall is a call of a script to its host.
type HostCall struct {
	Pipeline clixml.GUID // zero: of the pool
	ID       int64
	Method   HostMethod
	Name     string // as the server names the method
	Args     []any
}

// WantsAnswer reports whether the script waits for an answer.
func (c HostCall) WantsAnswer() bool { return !tells[c.Method] }

const methodType = "System.Management.Automation.Remoting.RemoteHostMethodId"

func (c HostCall) method() *clixml.Object { return clixml.Enum(methodType, c.Name, int32(c.Method)) }

func (c HostCall) object() *clixml.Object {
	args := clixml.Object{Types: []string{"System.Collections.ArrayList", "System.Object"}, Base: clixml.List{Items: c.Args}}
	return clixml.Note(member("ci", c.ID), member("mi", c.method()), member("mp", &args))
}

func readHostCall(m message, v any) HostCall {
	c := HostCall{Pipeline: m.pipeline}
	c.ID, _ = clixml.Int(clixml.Get(v, "ci"))
	n, _ := clixml.Int(clixml.Get(v, "mi"))
	c.Method, c.Name = HostMethod(n), clixml.Text(clixml.Get(v, "mi")) //nolint:gosec // of I32
	c.Args, _ = clixml.Items(clixml.Get(v, "mp"))
	return c
}

// NotInteractive is the answer to a call that only a person could answer.
func NotInteractive(c HostCall) *ErrorRecord {
	return &ErrorRecord{
		Message:   "the script asks for input (" + c.Name + ") and nobody is there to give it: run it without prompts, such as with -Confirm:$false, and pass what it needs as arguments",
		ID:        "RunnerNotInteractive",
		Exception: "System.Management.Automation.Host.HostException",
		Types:     []string{"System.Management.Automation.Host.HostException", "System.Management.Automation.RuntimeException", "System.SystemException", "System.Exception", "System.Object"},
		Category:  Category{Code: 9, Reason: "HostException", Message: "InvalidOperation: (:) [], HostException"},
	}
}

// hostAnswer is the object of an answer to c.
func hostAnswer(c HostCall, result any, refused *ErrorRecord) *clixml.Object {
	o := clixml.Note(member("ci", c.ID), member("mi", c.method()))
	if refused != nil {
		o.Extended = append(o.Extended, member("me", refused.object()))
	} else {
		o.Extended = append(o.Extended, member("mr", result))
	}
	return o
}

// nullHost says that nobody sits in front of the script.
func nullHost() *clixml.Object {
	return clixml.Note(member("_isHostNull", true), member("_isHostUINull", true), member("_isHostRawUINull", true), member("_useRunspaceHost", true))
}
