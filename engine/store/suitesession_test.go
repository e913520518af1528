package store_test

import (
	"errors"
	"testing"

	"runner/engine/grant"
)

func sessionsOfGrants(t *testing.T, s ledger) {
	ctx := t.Context()
	open := func(n int, id, device string) {
		c := newCase(n, device)
		c.Open(grant.Session{ID: id, Kind: grant.SessionShell, Node: "n-1", Client: "host/1"}, at(n))
		ok(t, s.Create(ctx, c, nil))
	}
	open(0, "s-aa", "a")
	open(1, "s-ab", "b")

	got := must[grant.Session](t)(s.Session(ctx, "s-ab"))
	c := must[grant.Case](t)(s.Case(ctx, got.Grant))
	same(t, got, grant.Session{
		ID: "s-ab", Grant: c.Grant.ID, Requester: c.Grant.Requester, Credential: c.Grant.Credential, Device: "b", Account: c.Grant.Account,
		Kind: grant.SessionShell, Node: "n-1", Client: "host/1", Opened: kept(at(1)), Beat: kept(at(1)),
	})
	if c.Opens != nil {
		t.Error("a loaded case opens a session")
	}
	_, err := s.Session(ctx, "s-a")
	if _, is := errors.AsType[*grant.AmbiguousError](err); !is {
		t.Errorf("a prefix of two: %v", err)
	}
	_, err = s.Session(ctx, "s-z")
	want(t, err, grant.ErrNotFound)

	listed := func(f grant.Filter) (ids []string) {
		t.Helper()
		for _, x := range must[[]grant.Session](t)(s.Sessions(ctx, f)) {
			ids = append(ids, x.ID)
		}
		return ids
	}
	same(t, listed(grant.Filter{}), []string{"s-ab", "s-aa"})
	same(t, listed(grant.Filter{Limit: 1}), []string{"s-ab"})
	same(t, listed(grant.Filter{Device: "a"}), []string{"s-aa"})
	same(t, listed(grant.Filter{Grant: got.Grant}), []string{"s-ab"})

	ok(t, s.ChangeSession(ctx, "s-aa", func(x *grant.Session) error { return x.Start(at(3)) }))
	ok(t, s.ChangeSession(ctx, "s-aa", func(x *grant.Session) error {
		x.Device = "elsewhere" // what identifies a session stays
		x.Recorded, x.Dropped = 70, 7
		x.End(at(5), "root", grant.SessionExit, 3)
		return nil
	}))
	x := must[grant.Session](t)(s.Session(ctx, "s-aa"))
	same(t, x.Device, "a")
	same(t, []any{x.Started, x.Beat, x.Ended, x.EndedBy, x.Status, x.Recorded, x.Dropped}, []any{kept(at(3)), kept(at(3)), kept(at(5)), grant.SessionExit, 3, int64(70), int64(7)})
	same(t, listed(grant.Filter{States: []string{"open"}}), []string{"s-ab"})
	same(t, listed(grant.Filter{States: []string{"ended"}}), []string{"s-aa"})

	var said []string
	for _, e := range must[[]grant.Event](t)(s.Audit(ctx, x.Grant)) {
		said = append(said, e.Action)
	}
	same(t, said[len(said)-3:], []string{"session.opened", "session.started", "session.ended"})

	refused := errors.New("no")
	want(t, s.ChangeSession(ctx, "s-ab", func(x *grant.Session) error { x.Beat = at(99); return refused }), refused)
	same(t, must[grant.Session](t)(s.Session(ctx, "s-ab")).Beat, kept(at(1)))
	want(t, s.ChangeSession(ctx, "s-zz", func(*grant.Session) error { return nil }), grant.ErrNotFound)
}
