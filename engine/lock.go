package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"runner/engine/grant"
	"runner/engine/template"
)

// lock runs a removal as far as the step that ends the access, and leaves the
// account where it is. It is tried for ever, as a removal is.
func (w *work) lock(ctx context.Context) error {
	tpl, err := w.e.pinned(ctx, w.c.Grant.Plan.Removal)
	if err != nil {
		return w.again(ctx, err, itself, nil)
	}
	w.exec.Template = string(tpl.Kind) + "/" + tpl.Name + "@" + tpl.Hash[:12]
	steps, err := lockSteps(tpl)
	if err != nil {
		return w.again(ctx, err, "the template", nil)
	}
	conn, cn, err := w.dial(ctx)
	if err != nil {
		return w.again(ctx, err, w.notReached(err), nil)
	}
	defer conn.Close()
	res, err := w.ladder(ctx, rung{tpl: tpl, steps: steps, grant: &w.c.Grant, last: true}, conn, cn)
	w.locked = lockedAt(res)
	if err == nil && w.locked.IsZero() {
		err = errors.New("the steps that end the access were skipped: the account is not there any more")
	}
	if err != nil {
		return w.notYet(ctx, err, nil)
	}
	w.ended(ctx, "ok", "")
	return w.settle(ctx, func(c *grant.Case) error { return c.Locked(w.fence, w.e.Now(), w.locked) })
}

// lockSteps returns the steps of a removal up to the one that ends the access.
func lockSteps(tpl *template.Template) ([]*template.Step, error) {
	at := slices.IndexFunc(tpl.Steps, func(s *template.Step) bool { return slices.Contains(s.Tags, "no_access") })
	if at < 0 {
		return nil, fmt.Errorf("no step of template %s/%s is tagged no_access, so it cannot lock an account without deleting it", tpl.Kind, tpl.Name)
	}
	return tpl.Steps[:at+1], nil
}
