package psrp

import (
	"time"

	"runner/engine/transport/winrm/clixml"
)

// Stream names a stream of a pipeline.
type Stream int

// The streams of a pipeline.
const (
	Output Stream = iota
	Error
	Warning
	Verbose
	Debug
	Information
	Progress
)

// String returns PowerShell's word.
func (s Stream) String() string {
	return [...]string{"output", "error", "warning", "verbose", "debug", "information", "progress"}[s]
}

var streamOf = map[messageType]Stream{
	pipelineOutput: Output, errorRecord: Error, warningRecord: Warning, verboseRecord: Verbose, debugRecord: Debug,
	informationRecord: Information, progressRecord: Progress,
}

// Category says what kind of error it is, and of what.
type Category struct {
	Code                                              int32
	Activity, Reason, TargetName, TargetType, Message string
}

// ErrorRecord is an error of PowerShell ([MS-PSRP] 2.2.3.15).
type ErrorRecord struct {
	Message   string   // for people
	ID        string   // FullyQualifiedErrorId: stable and in English
	Exception string   // name of the .NET type
	Types     []string // that type and those it derives from
	Code      int32    // HResult
	Category  Category
	Target    any
	Position  string // where in the script, in several lines
	Line      int    // line of the script; 0: not known
	Stack     string
}

// Text returns the message, or what else tells the error.
func (e *ErrorRecord) Text() string {
	switch {
	case e.Message != "":
		return e.Message
	case e.ID != "":
		return e.ID
	}
	return "unknown error"
}

// IsA reports whether the exception is of the .NET type name or derives from it.
func (e *ErrorRecord) IsA(name string) bool {
	return (&clixml.Object{Types: e.Types}).Is(name)
}

func member(name string, v any) clixml.Member { return clixml.Member{Name: name, Value: v} }

// object returns e as Windows writes it.
func (e *ErrorRecord) object() *clixml.Object {
	types := e.Types
	if len(types) == 0 {
		types = []string{e.Exception, "System.Exception", "System.Object"}
	}
	return &clixml.Object{
		Types: []string{"System.Management.Automation.ErrorRecord", "System.Object"}, ToString: e.Text(),
		Extended: []clixml.Member{
			member("Exception", &clixml.Object{
				Types: types, ToString: e.Exception + ": " + e.Text(),
				Adapted: []clixml.Member{member("Message", e.Message), member("InnerException", nil), member("HResult", e.Code)},
			}),
			member("TargetObject", e.Target),
			member("FullyQualifiedErrorId", e.ID),
			member("InvocationInfo", &clixml.Object{
				Types:   []string{"System.Management.Automation.InvocationInfo", "System.Object"},
				Adapted: []clixml.Member{member("ScriptLineNumber", e.Line), member("PositionMessage", e.Position)},
			}),
			member("ErrorCategory_Category", e.Category.Code),
			member("ErrorCategory_Activity", e.Category.Activity),
			member("ErrorCategory_Reason", e.Category.Reason),
			member("ErrorCategory_TargetName", e.Category.TargetName),
			member("ErrorCategory_TargetType", e.Category.TargetType),
			member("ErrorCategory_Message", e.Category.Message),
			member("SerializeExtendedInfo", false),
			member("ErrorDetails_ScriptStackTrace", e.Stack),
		},
	}
}

// Record is an ErrorRecord that was read, or nil when v is none.
func readError(v any) *ErrorRecord {
	o, ok := v.(*clixml.Object)
	if !ok || o == nil {
		return nil
	}
	text := func(path ...string) string { return clixml.Text(clixml.Get(o, path...)) }
	number := func(path ...string) int32 {
		n, _ := clixml.Int(clixml.Get(o, path...))
		return int32(n) //nolint:gosec // of I32
	}
	e := &ErrorRecord{
		Message: text("ErrorDetails_Message"), ID: text("FullyQualifiedErrorId"), Code: number("Exception", "HResult"),
		Category: Category{
			Code: number("ErrorCategory_Category"), Activity: text("ErrorCategory_Activity"), Reason: text("ErrorCategory_Reason"),
			TargetName: text("ErrorCategory_TargetName"), TargetType: text("ErrorCategory_TargetType"), Message: text("ErrorCategory_Message"),
		},
		Target: o.Get("TargetObject"), Position: text("InvocationInfo", "PositionMessage"), Line: int(number("InvocationInfo", "ScriptLineNumber")),
		Stack: text("ErrorDetails_ScriptStackTrace"),
	}
	if x, is := o.Get("Exception").(*clixml.Object); is && x != nil {
		e.Types = x.Types
		if len(x.Types) > 0 {
			e.Exception = x.Types[0]
		}
		if e.Message == "" {
			e.Message = clixml.Text(x.Get("Message"))
		}
	}
	if e.Message == "" {
		e.Message = o.ToString
	}
	return e
}

// InformationRecord is what Write-Information and Write-Host write.
type InformationRecord struct {
	Data   any // of Write-Host: an object with the property Message
	Source string
	At     time.Time
	Tags   []string
	User   string
}

// Text returns the message for people.
func (r *InformationRecord) Text() string {
	if m := clixml.Get(r.Data, "Message"); m != nil {
		return clixml.Text(m)
	}
	return clixml.Text(r.Data)
}

func (r *InformationRecord) object() *clixml.Object {
	tags := clixml.List{}
	for _, t := range r.Tags {
		tags.Items = append(tags.Items, t)
	}
	return clixml.Note(member("MessageData", r.Data), member("Source", r.Source), member("TimeGenerated", r.At), member("Tags", tags), member("User", r.User))
}

func readInformation(v any) *InformationRecord {
	r := &InformationRecord{Data: clixml.Get(v, "MessageData"), Source: clixml.Text(clixml.Get(v, "Source")), User: clixml.Text(clixml.Get(v, "User"))}
	switch at := clixml.Get(v, "TimeGenerated").(type) {
	case time.Time:
		r.At = at
	case clixml.LocalTime:
		r.At = at.Time
	}
	tags, _ := clixml.Items(clixml.Get(v, "Tags"))
	for _, t := range tags {
		r.Tags = append(r.Tags, clixml.Text(t))
	}
	return r
}

// ProgressRecord says how far something has come.
type ProgressRecord struct {
	Activity, Status, Operation string
	Percent                     int // -1: not known
	Completed                   bool
}

func (r *ProgressRecord) object() *clixml.Object {
	kind := clixml.Enum("System.Management.Automation.ProgressRecordType", "Processing", 0)
	if r.Completed {
		kind = clixml.Enum("System.Management.Automation.ProgressRecordType", "Completed", 1)
	}
	return clixml.Note(member("Activity", r.Activity), member("ActivityId", 0), member("StatusDescription", r.Status), member("CurrentOperation", r.Operation),
		member("ParentActivityId", -1), member("PercentComplete", r.Percent), member("Type", kind), member("SecondsRemaining", -1))
}

func readProgress(v any) *ProgressRecord {
	text := func(name string) string { return clixml.Text(clixml.Get(v, name)) }
	n, _ := clixml.Int(clixml.Get(v, "PercentComplete"))
	kind, _ := clixml.Int(clixml.Get(v, "Type"))
	return &ProgressRecord{Activity: text("Activity"), Status: text("StatusDescription"), Operation: text("CurrentOperation"), Percent: int(n), Completed: kind == 1}
}

// messageObject is a warning, verbose or debug record.
func messageObject(s Stream, text string) *clixml.Object {
	name := map[Stream]string{Warning: "Warning", Verbose: "Verbose", Debug: "Debug"}[s]
	return &clixml.Object{
		Types:    []string{"System.Management.Automation." + name + "Record", "System.Management.Automation.InformationalRecord", "System.Object"},
		ToString: text,
		Extended: []clixml.Member{member("InformationalRecord_Message", text), member("InformationalRecord_SerializeInvocationInfo", false)},
	}
}

// readRecord turns the object of a stream's message into the value of a Record.
func readRecord(s Stream, v any) any {
	switch s {
	case Output:
	case Error:
		if e := readError(v); e != nil {
			return e
		}
		return &ErrorRecord{Message: clixml.Text(v)}
	case Warning, Verbose, Debug:
		if m := clixml.Get(v, "InformationalRecord_Message"); m != nil {
			return clixml.Text(m)
		}
		return clixml.Text(v)
	case Information:
		return readInformation(v)
	case Progress:
		return readProgress(v)
	}
	return v
}
