package engine_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"runner/engine"
	"runner/engine/grant"
	"runner/engine/store"
)

// What people looked at long ago is deleted, piece by piece; what belongs to a grant
// that is not over stays, and so does what is younger.
func TestOldLogsAndRecordingsAreDeleted(t *testing.T) {
	t.Parallel()
	s := store.NewMemory()
	f := newFleet(t, s, 4, "")
	synctest.Test(t, func(t *testing.T) {
		<-time.After(time.Until(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)))
		logs := func(c grant.Case) (kept, gone int) {
			xs, err := s.Executions(t.Context(), grant.Filter{Grant: c.Grant.ID})
			must(t, err)
			for _, x := range xs {
				chunks, err := s.ReadLog(t.Context(), x.ID, 0, 0)
				must(t, err)
				switch {
				case len(chunks) > 0 && x.Dropped == 0 && x.LogBytes > 0:
					kept++
				case len(chunks) == 0 && x.Dropped == x.LogBytes && x.LogBytes > 0:
					gone++
				default:
					t.Errorf("%d chunks of %+v", len(chunks), x)
				}
			}
			return kept, gone
		}
		record := func(id string) {
			must(t, s.AppendLog(t.Context(), []grant.Chunk{{Execution: id, At: time.Now(), Stream: "shown", Data: []byte("hello")}}))
			must(t, s.ChangeSession(t.Context(), id, func(x *grant.Session) error {
				x.End(time.Now(), "user", grant.SessionExit, 0)
				return nil
			}))
		}
		with := func(n int, length time.Duration) (grant.Case, string) {
			c, err := f.Request(t.Context(), engine.Ask{Credential: "c0", Requester: string(rune('a' + n)), Caller: "root", Operator: true, For: length, Session: &engine.SessionAsk{Kind: grant.SessionLocal}})
			must(t, err)
			c, err = f.RunJob(t.Context(), c.Forward().ID)
			must(t, err)
			list, err := s.Sessions(t.Context(), grant.Filter{Grant: c.Grant.ID})
			must(t, err)
			record(list[0].ID)
			return c, list[0].ID
		}
		old, oldID := with(0, time.Hour)
		open, openID := with(1, 20*time.Hour)
		end := func(c grant.Case) {
			t.Helper()
			c, err := f.End(t.Context(), c.Grant.ID, "root", "end")
			must(t, err)
			_, err = f.Remove(t.Context(), c)
			must(t, err)
		}
		end(old)
		f.devices.mute["d0"] = time.Second
		c, err := f.End(t.Context(), open.Grant.ID, "root", "end")
		must(t, err)
		_, err = f.Remove(t.Context(), c) // it does not answer: the grant is not over
		must(t, err)
		delete(f.devices.mute, "d0")
		<-time.After(99 * 24 * time.Hour)
		young, youngID := with(2, time.Hour)
		end(young)
		<-time.After(24 * time.Hour)

		r := engine.Retention{Recordings: 100 * 24 * time.Hour, Patience: time.Minute}
		done, err := f.Retain(t.Context(), r)
		must(t, err)
		if done != (engine.Retained{Recordings: 1}) {
			t.Errorf("deleted %+v", done)
		}
		for id, want := range map[string]int{oldID: 0, openID: 1, youngID: 1} {
			if chunks, err := s.ReadLog(t.Context(), id, 0, 0); err != nil || len(chunks) != want {
				t.Errorf("%s: %d chunks, %v", id, len(chunks), err)
			}
		}
		x, err := s.Session(t.Context(), oldID)
		must(t, err)
		if x.Recorded != 5 || x.Dropped != 5 {
			t.Errorf("%+v", x)
		}
		audit, err := s.Audit(t.Context(), old.Grant.ID)
		must(t, err)
		if last := audit[len(audit)-1]; last.Action != "session.recording_deleted" || last.Detail["bytes"] != "5" {
			t.Errorf("the audit ends with %+v", last)
		}
		if kept, gone := logs(old); kept != 2 || gone != 0 {
			t.Errorf("logs: %d kept, %d gone", kept, gone)
		}
		r.Recordings, r.Logs, r.Patience = 0, 100*24*time.Hour, -1
		if done, err = f.Retain(t.Context(), r); err != nil || !done.More || done.Logs != 0 {
			t.Errorf("without patience: %+v, %v", done, err)
		}
		r.Patience = time.Minute
		if done, err = f.Retain(t.Context(), r); err != nil || done.Logs != 2 || done.More {
			t.Errorf("deleted %+v, %v", done, err)
		}
		for i, c := range []grant.Case{old, open, young} {
			if kept, gone := logs(c); kept != []int{0, 2, 2}[i] || gone != []int{2, 0, 0}[i] {
				t.Errorf("logs of %s: %d kept, %d gone", c.Grant.ID, kept, gone)
			}
		}
		if done, err = f.Retain(t.Context(), r); err != nil || done != (engine.Retained{}) {
			t.Errorf("once more: %+v, %v", done, err)
		}
		// What failed to be removed is removed as ever.
		if c, err = s.Case(t.Context(), open.Grant.ID); err == nil {
			_, err = f.Remove(t.Context(), c)
		}
		must(t, err)
		if c, err = s.Case(t.Context(), open.Grant.ID); err != nil || c.Grant.State != grant.Removed {
			t.Errorf("grant is %s: %s %v", c.Grant.State, strings.TrimSpace(c.Removal().LastError), err)
		}
	})
}
