package main

import (
	"encoding/json"
	"slices"
	"time"

	"runner/engine/grant"
)

// The structs of this file are what -o json and -o yaml print. Their fields
// are a contract, described in README.md: they are only added to.

// grantJSON is a grant.
type grantJSON struct {
	ID         string    `json:"id"`
	State      string    `json:"state"`
	Requester  string    `json:"requester"`
	Caller     string    `json:"caller"`
	Reason     string    `json:"reason,omitempty"`
	Credential string    `json:"credential"`
	Device     string    `json:"device"`
	Account    string    `json:"account"`
	UID        int64     `json:"uid,omitempty"`
	Address    string    `json:"address"`
	Port       int       `json:"port"`
	Requested  time.Time `json:"requested_at"`
	Activated  time.Time `json:"activated_at,omitzero"`
	Expires    time.Time `json:"expires_at"`
	Remaining  int64     `json:"remaining_seconds"`
	Backstop   time.Time `json:"backstop_at,omitzero"`
	Collected  time.Time `json:"collected_at,omitzero"`
	Ended      time.Time `json:"ended_at,omitzero"`
	EndedBy    string    `json:"ended_by,omitempty"`
	NoAccess   time.Time `json:"no_access_at,omitzero"`
	NoTrace    time.Time `json:"no_trace_at,omitzero"`
	Failure    string    `json:"failure,omitempty"`
	Origin     string    `json:"origin,omitempty"`
	Overdue    int64     `json:"overdue_seconds"`
	BlockedBy  string    `json:"blocked_by,omitempty"`
	Next       *nextJSON `json:"next,omitempty"`
}

// nextJSON is what happens to a grant next.
type nextJSON struct {
	What string    `json:"what"`
	At   time.Time `json:"at,omitzero"`
	Job  string    `json:"job_id,omitempty"`
}

// caseJSON is a grant with everything that belongs to it.
type caseJSON struct {
	grantJSON

	Jobs       []jobJSON       `json:"jobs"`
	Executions []executionJSON `json:"executions"`
	Changes    []changeJSON    `json:"changes"`
	Timeline   []eventJSON     `json:"timeline"`
	Outputs    json.RawMessage `json:"outputs,omitempty"`
}

// jobJSON is planned work of a grant.
type jobJSON struct {
	ID          string    `json:"id"`
	GrantID     string    `json:"grant_id"`
	Kind        string    `json:"kind"`
	State       string    `json:"state"`
	Segura      string    `json:"segura_status"`
	Due         time.Time `json:"due_at"`
	Requester   string    `json:"requester"`
	Credential  string    `json:"credential"`
	Device      string    `json:"device"`
	Account     string    `json:"account"`
	Attempt     int       `json:"attempt"`
	Node        string    `json:"node,omitempty"`
	Execution   string    `json:"execution_id,omitempty"`
	FirstFailed time.Time `json:"first_failed_at,omitzero"`
	LastError   string    `json:"last_error,omitempty"`
	BlockedBy   string    `json:"blocked_by,omitempty"`
	PausedUntil time.Time `json:"paused_until,omitzero"`
	Finished    time.Time `json:"finished_at,omitzero"`
	Overdue     int64     `json:"overdue_seconds"`
}

// executionJSON is one attempt at running a template.
type executionJSON struct {
	ID        string     `json:"id"`
	JobID     string     `json:"job_id,omitempty"`
	GrantID   string     `json:"grant_id,omitempty"`
	Kind      string     `json:"kind"`
	Template  string     `json:"template"`
	Device    string     `json:"device"`
	Attempt   int        `json:"attempt"`
	Node      string     `json:"node"`
	Started   time.Time  `json:"started_at"`
	Ended     time.Time  `json:"ended_at,omitzero"`
	Outcome   string     `json:"outcome"`
	Error     string     `json:"error,omitempty"`
	Peer      string     `json:"peer,omitempty"`
	ConnectMS int64      `json:"connect_ms"`
	TookMS    int64      `json:"duration_ms"`
	Steps     int        `json:"steps"`
	LogBytes  int64      `json:"log_bytes"`
	Dropped   int64      `json:"log_dropped_bytes"`
	Results   []stepJSON `json:"step_results,omitempty"`
}

// stepJSON is what became of a step.
type stepJSON struct {
	N        int       `json:"n"`
	Name     string    `json:"name"`
	Module   string    `json:"module"`
	Status   string    `json:"status"`
	RC       int       `json:"rc"`
	Attempts int       `json:"attempts"`
	Started  time.Time `json:"started_at,omitzero"`
	TookMS   int64     `json:"duration_ms"`
	Message  string    `json:"message,omitempty"`
	Reason   string    `json:"reason,omitempty"`
	LogFrom  int64     `json:"log_from"`
	LogTo    int64     `json:"log_to"`
}

// changeJSON is an object that a grant changed on its device.
type changeJSON struct {
	Seq       int    `json:"seq"`
	Execution string `json:"execution_id"`
	Step      int    `json:"step"`
	Module    string `json:"module"`
	Object    string `json:"object"`
	State     string `json:"state"`
	Before    string `json:"before"`
	After     string `json:"after"`
}

// eventJSON is an audit row.
type eventJSON struct {
	At     time.Time         `json:"at"`
	Actor  string            `json:"actor"`
	Action string            `json:"action"`
	Detail map[string]string `json:"detail,omitempty"`
}

// receiptJSON is the proof that nothing of a grant is left.
type receiptJSON struct {
	Grant    string    `json:"grant_id"`
	State    string    `json:"state"`
	Account  string    `json:"account"`
	Empty    bool      `json:"empty"`
	NoAccess time.Time `json:"no_access_at,omitzero"`
	NoTrace  time.Time `json:"no_trace_at,omitzero"`
	*grant.Receipt
}

// secretJSON is an account that was handed out.
type secretJSON struct {
	Grant      string    `json:"grant_id"`
	State      string    `json:"state"`
	Account    string    `json:"account"`
	Password   string    `json:"password,omitempty"`
	PrivateKey string    `json:"private_key,omitempty"`
	KeyFile    string    `json:"private_key_file,omitempty"`
	Address    string    `json:"address"`
	Port       int       `json:"port"`
	Platform   string    `json:"platform"`
	Expires    time.Time `json:"expires_at"`
}

func viewGrant(c *grant.Case, now time.Time) grantJSON {
	g := &c.Grant
	v := grantJSON{
		ID: g.ID, State: string(g.State), Requester: g.Requester, Caller: g.Caller, Reason: g.Reason, Credential: g.Credential,
		Device: g.Device, Account: g.Account, UID: g.UID, Requested: g.Requested, Activated: g.Activated, Expires: g.Expires,
		Backstop: g.Backstop, Collected: g.Collected, Ended: g.Ended, EndedBy: g.EndedBy, NoAccess: g.NoAccess, NoTrace: g.NoTrace,
		Failure: g.Failure, Origin: g.Origin, Overdue: seconds(c.Overdue(now)), Next: next(c, now),
	}
	v.Address, v.Port = endpoint(g)
	if g.State == grant.Active {
		v.Remaining = max(0, seconds(g.Expires.Sub(now)))
	}
	if r := c.Removal(); r != nil && !g.State.Final() {
		v.BlockedBy = r.BlockedBy
	}
	return v
}

// more names the command that says more of a grant that does not go well.
func (v *grantJSON) more() string {
	if v.Overdue == 0 && v.BlockedBy == "" {
		return ""
	}
	return "runner grant explain " + v.ID
}

// stateText is the state of a grant, with how it came about when nobody requested it.
func stateText(v *grantJSON) string {
	if v.Origin == "" {
		return v.State
	}
	return v.State + " (" + v.Origin + ")"
}

// endpoint returns where the account of a grant logs in, as it was pinned.
func endpoint(g *grant.Grant) (address string, port int) {
	var pinned struct {
		Address string `json:"address"`
		Port    int    `json:"port"`
	}
	if json.Unmarshal(g.Plan.Connection, &pinned) != nil {
		return "", 0 // only people and scripts look at it
	}
	return pinned.Address, pinned.Port
}

// next says what happens to a grant next, or nil when nothing does.
func next(c *grant.Case, now time.Time) *nextJSON {
	if c.Grant.State.Final() {
		return nil
	}
	for i := range c.Jobs {
		if c.Jobs[i].State == grant.Running {
			return &nextJSON{What: string(c.Jobs[i].Kind) + " is running", Job: c.Jobs[i].ID}
		}
	}
	j := c.Removal()
	if c.Grant.State == grant.Requested {
		j = c.Forward()
	}
	switch {
	case c.Grant.State == grant.WaitingApproval || j == nil:
		return &nextJSON{What: "waiting for approval", At: c.Grant.Expires}
	case j.State == grant.Paused:
		return &nextJSON{What: string(j.Kind) + " is paused", At: j.PausedUntil, Job: j.ID}
	case j.Attempt > 0:
		return &nextJSON{What: string(j.Kind) + " is tried again", At: later(j.Due, now), Job: j.ID}
	}
	return &nextJSON{What: string(j.Kind) + " is due", At: later(j.Due, now), Job: j.ID}
}

// later keeps what is due already from being announced for the past.
func later(t, now time.Time) time.Time {
	if t.Before(now) {
		return now
	}
	return t
}

func viewJob(j *grant.Job, c *grant.Case, now time.Time) jobJSON {
	v := jobJSON{
		ID: j.ID, GrantID: j.GrantID, Kind: string(j.Kind), State: string(j.State), Segura: seguraStatus(j, c), Due: j.Due, Device: j.Device,
		Requester: c.Grant.Requester, Credential: c.Grant.Credential, Account: c.Grant.Account, Attempt: j.Attempt, Node: j.Node,
		Execution: j.Execution, FirstFailed: j.FirstFailed, LastError: j.LastError, BlockedBy: j.BlockedBy, PausedUntil: j.PausedUntil,
		Finished: j.Finished,
	}
	if j.Kind.Removal() {
		v.Overdue = seconds(c.Overdue(now))
	}
	return v
}

// seguraStatus is the word that Segura has for the state of a job.
func seguraStatus(j *grant.Job, c *grant.Case) string {
	switch j.State {
	case grant.Waiting, grant.Paused:
		switch {
		case j.LastError != "":
			return "Error"
		case j.Kind.Removal():
			return "Waiting approval"
		}
		return "Scheduled"
	case grant.Running:
		return "In execution"
	case grant.JobCancelled:
		return "Cancelled"
	case grant.Done:
	}
	if j.LastError != "" || !j.Kind.Removal() && j.Kind != grant.Renew && c.Grant.Failure != "" {
		return "Error"
	}
	return "Successfully completed"
}

func viewExecution(x *grant.Execution, steps []grant.StepResult, now time.Time) executionJSON {
	v := executionJSON{
		ID: x.ID, JobID: x.JobID, GrantID: x.GrantID, Kind: string(x.Kind), Template: x.Template, Device: x.Device, Attempt: x.Attempt,
		Node: x.Node, Started: x.Started, Ended: x.Ended, Outcome: x.Outcome, Error: x.Error, Peer: x.Peer, ConnectMS: x.Connect.Milliseconds(),
		TookMS: took(x, now).Milliseconds(), Steps: x.Steps, LogBytes: x.LogBytes, Dropped: x.Dropped,
	}
	if x.Outcome == "" {
		v.Outcome = "running"
	}
	inOrder := slices.SortedStableFunc(slices.Values(steps), func(x, y grant.StepResult) int { return x.N - y.N })
	for _, s := range inOrder {
		v.Results = append(v.Results, stepJSON{
			N: s.N, Name: s.Name, Module: s.Module, Status: s.Status, RC: s.RC, Attempts: s.Attempts,
			Started: s.Started, TookMS: s.Took.Milliseconds(), Message: s.Message, Reason: s.Reason, LogFrom: s.LogFrom, LogTo: s.LogTo,
		})
	}
	return v
}

// took returns how long an execution took, or has been running.
func took(x *grant.Execution, now time.Time) time.Duration {
	if x.Ended.IsZero() {
		return max(0, now.Sub(x.Started))
	}
	return x.Ended.Sub(x.Started)
}

func viewChanges(cs []grant.Change) []changeJSON {
	out := make([]changeJSON, 0, len(cs))
	for _, c := range cs {
		out = append(out, changeJSON{
			Seq: c.Seq, Execution: c.Execution, Step: c.Step, Module: c.Module, Object: c.Object, State: c.State,
			Before: c.Before, After: c.After,
		})
	}
	return out
}

func viewEvents(es []grant.Event) []eventJSON {
	out := make([]eventJSON, 0, len(es))
	for _, e := range es {
		out = append(out, eventJSON{At: e.At, Actor: e.Actor, Action: e.Action, Detail: e.Detail})
	}
	return out
}

func seconds(d time.Duration) int64 { return int64(d / time.Second) }
