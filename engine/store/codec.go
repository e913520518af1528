package store

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"time"

	"runner/engine/grant"
)

// The columns of each table, in the order in which its args and scan function
// have them.
const (
	snapshotColumns = `hash, kind, name, body`
	grantColumns    = `id, state, requester, caller, reason, credential, device, account, uid, creates, requested_at, activated_at,
	expires_at, for_ns, backstop_at, ended_at, ended_by, no_access_at, no_trace_at, failure, sealed, collected_at,
	plan_forward, plan_removal, plan_params, plan_connection, plan_longest_ns, outputs, receipt, origin`
	jobColumns = `id, grant_id, seq, kind, removal, state, device, due_at, ready_at, attempt, node, execution,
	first_failed_at, last_error, blocked_by, paused_until, again_at, until_at, finished_at, login, login_limit, missed, silent`
	executionColumns = `id, job_id, grant_id, kind, template, device, attempt, node, started_at, ended_at, outcome, error, peer,
	connect_ns, steps, log_bytes, dropped`
	stepColumns    = `execution, n, name, module, status, rc, attempts, started_at, took_ns, message, reason, log_from, log_to`
	sessionColumns = `id, grant_id, requester, credential, device, account, kind, command, node, client, opened_at, started_at, beat_at,
	ended_at, ended_by, status, recorded, dropped`
	changeColumns = `grant_id, seq, execution, step, module, object, state, before, after, undo`
)

// scanner is a row: *sql.Row and *sql.Rows.
type scanner interface{ Scan(dest ...any) error }

// all reads every row with one and closes rows.
func all[T any](rows *sql.Rows, err error, one func(scanner) (T, error)) ([]T, error) {
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	var out []T
	for rows.Next() {
		v, err := one(rows)
		if err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	return out, rows.Err()
}

func scanText(r scanner) (s string, err error) { return s, r.Scan(&s) }

// msTime is a column with a time that has always been there.
type msTime struct{ t *time.Time }

// Scan reads milliseconds.
func (m msTime) Scan(v any) error {
	ms, ok := v.(int64)
	if !ok {
		return fmt.Errorf("a time is %T", v)
	}
	*m.t = time.UnixMilli(ms).UTC()
	return nil
}

// maybeTime is a column with a time that may not have come yet.
type maybeTime struct{ t *time.Time }

// Scan reads milliseconds; NULL is the zero time.
func (m maybeTime) Scan(v any) error {
	if v == nil {
		*m.t = time.Time{}
		return nil
	}
	return msTime(m).Scan(v)
}

// maybeText is a column whose NULL is the empty string.
type maybeText struct{ s *string }

// Scan reads text.
func (m maybeText) Scan(v any) error {
	var s sql.NullString
	err := s.Scan(v)
	*m.s = s.String
	return err
}

// rawJSON is a column with JSON that is kept byte for byte; NULL is nil.
type rawJSON struct{ j *json.RawMessage }

// Scan reads text.
func (r rawJSON) Scan(v any) error {
	var s string
	if err := (maybeText{&s}).Scan(v); err != nil || s == "" {
		*r.j = nil
		return err
	}
	*r.j = json.RawMessage(s)
	return nil
}

func ms(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t.UnixMilli()
}

func text(s string) any {
	if s == "" {
		return nil
	}
	return s
}

func blob(b []byte) any {
	if len(b) == 0 {
		return nil
	}
	return b
}

func flag(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

func grantArgs(g *grant.Grant) ([]any, error) {
	var receipt any
	if g.Receipt != nil {
		b, err := json.Marshal(g.Receipt)
		if err != nil {
			return nil, err
		}
		receipt = string(b)
	}
	return []any{
		g.ID, string(g.State), g.Requester, g.Caller, g.Reason, g.Credential, g.Device, g.Account, g.UID, flag(g.Creates),
		g.Requested.UnixMilli(), ms(g.Activated), g.Expires.UnixMilli(), int64(g.For), ms(g.Backstop), ms(g.Ended), g.EndedBy,
		ms(g.NoAccess), ms(g.NoTrace), g.Failure, blob(g.Sealed), ms(g.Collected),
		text(g.Plan.Forward), text(g.Plan.Removal), text(string(g.Plan.Params)), text(string(g.Plan.Connection)), int64(g.Plan.Longest),
		text(string(g.Outputs)), receipt, g.Origin,
	}, nil
}

func scanGrant(r scanner) (g grant.Grant, err error) {
	var receipt sql.NullString
	err = r.Scan(
		&g.ID, &g.State, &g.Requester, &g.Caller, &g.Reason, &g.Credential, &g.Device, &g.Account, &g.UID, &g.Creates,
		msTime{&g.Requested}, maybeTime{&g.Activated}, msTime{&g.Expires}, &g.For, maybeTime{&g.Backstop}, maybeTime{&g.Ended}, &g.EndedBy,
		maybeTime{&g.NoAccess}, maybeTime{&g.NoTrace}, &g.Failure, &g.Sealed, maybeTime{&g.Collected},
		maybeText{&g.Plan.Forward}, maybeText{&g.Plan.Removal}, rawJSON{&g.Plan.Params}, rawJSON{&g.Plan.Connection}, &g.Plan.Longest,
		rawJSON{&g.Outputs}, &receipt, &g.Origin,
	)
	if err != nil || !receipt.Valid {
		return g, err
	}
	g.Receipt = &grant.Receipt{}
	return g, json.Unmarshal([]byte(receipt.String), g.Receipt)
}

// jobArgs returns the columns of the seq-th job of its grant.
func jobArgs(j *grant.Job, seq int) []any {
	var ready any
	if at, ok := readyAt(j); ok {
		ready = at.UnixMilli()
	}
	return []any{
		j.ID, j.GrantID, int64(seq), string(j.Kind), flag(j.Kind.TakesAway()), string(j.State), j.Device, j.Due.UnixMilli(), ready,
		int64(j.Attempt), j.Node, j.Execution, ms(j.FirstFailed), j.LastError, j.BlockedBy, ms(j.PausedUntil), ms(j.Again), ms(j.Until), ms(j.Finished),
		j.Login, int64(j.LoginLimit), int64(j.Missed), flag(j.Silent),
	}
}

func scanJob(r scanner) (j grant.Job, err error) {
	var seq, removal int64
	var ready sql.NullInt64
	err = r.Scan(
		&j.ID, &j.GrantID, &seq, &j.Kind, &removal, &j.State, &j.Device, msTime{&j.Due}, &ready,
		&j.Attempt, &j.Node, &j.Execution, maybeTime{&j.FirstFailed}, &j.LastError, &j.BlockedBy, maybeTime{&j.PausedUntil}, maybeTime{&j.Again}, maybeTime{&j.Until}, maybeTime{&j.Finished},
		&j.Login, &j.LoginLimit, &j.Missed, &j.Silent,
	)
	return j, err
}

func executionArgs(e *grant.Execution) []any {
	return []any{
		e.ID, text(e.JobID), text(e.GrantID), string(e.Kind), e.Template, e.Device, int64(e.Attempt), e.Node,
		e.Started.UnixMilli(), ms(e.Ended), e.Outcome, e.Error, e.Peer, int64(e.Connect), int64(e.Steps), e.LogBytes, e.Dropped,
	}
}

func scanExecution(r scanner) (e grant.Execution, err error) {
	err = r.Scan(
		&e.ID, maybeText{&e.JobID}, maybeText{&e.GrantID}, &e.Kind, &e.Template, &e.Device, &e.Attempt, &e.Node,
		msTime{&e.Started}, maybeTime{&e.Ended}, &e.Outcome, &e.Error, &e.Peer, &e.Connect, &e.Steps, &e.LogBytes, &e.Dropped,
	)
	return e, err
}

func stepArgs(execution string, s *grant.StepResult) []any {
	return []any{
		execution, int64(s.N), s.Name, s.Module, s.Status, int64(s.RC), int64(s.Attempts), ms(s.Started), int64(s.Took),
		s.Message, s.Reason, s.LogFrom, s.LogTo,
	}
}

func scanStep(r scanner) (s grant.StepResult, err error) {
	var execution string
	err = r.Scan(
		&execution, &s.N, &s.Name, &s.Module, &s.Status, &s.RC, &s.Attempts, maybeTime{&s.Started}, &s.Took,
		&s.Message, &s.Reason, &s.LogFrom, &s.LogTo,
	)
	return s, err
}

func changeArgs(grantID string, c *grant.Change) []any {
	return []any{
		grantID, int64(c.Seq), c.Execution, int64(c.Step), c.Module, c.Object, c.State, c.Before, c.After, text(string(c.Undo)),
	}
}

func scanChange(r scanner) (c grant.Change, err error) {
	var grantID string
	err = r.Scan(&grantID, &c.Seq, &c.Execution, &c.Step, &c.Module, &c.Object, &c.State, &c.Before, &c.After, rawJSON{&c.Undo})
	return c, err
}
