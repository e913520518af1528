package verify

import (
	"context"
	"errors"

	"runner/engine/grant"
)

// cutOff are the cases in which a job is cut off at each of its steps.
func (l *life) cutOff() []try {
	var out []try
	for _, job := range []struct {
		kind   string
		points []point
		do     func(context.Context, *stage, *cut) error
	}{{"create", l.forward, cutCreate}, {"delete", l.removal, cutDelete}} {
		for _, p := range job.points {
			for _, when := range []moment{began, done} {
				how := "killed when the step had begun"
				if when == done {
					how = "cut off when the step was done"
				}
				if when == done && job.kind == "create" && p.n >= firstLook && p.n < firstProbe {
					continue // it only looks: nothing would be removed, nor what hangs there be ended
				}
				out = append(out, try{name: job.kind + ", " + how, step: p.name, creates: true, do: func(ctx context.Context, s *stage) error {
					return job.do(ctx, s, &cut{at: p, when: when})
				}})
			}
		}
	}
	return out
}

// cutCreate cuts a creation off and asks that its removal leaves nothing.
func cutCreate(ctx context.Context, s *stage, x *cut) error {
	w := s.worker(x)
	defer w.close()
	c, err := s.request(ctx, w)
	if err != nil {
		return err
	}
	if _, err := w.RunJob(ctx, c.Forward().ID); err != nil && !errors.Is(err, grant.ErrLeaseLost) {
		return err
	}
	if !x.fired {
		return notReached("the creation", x.at)
	}
	return s.cleaned(ctx, c.Grant.ID, s.base)
}

// cutDelete cuts a removal off and asks that the next one finishes it.
func cutDelete(ctx context.Context, s *stage, x *cut) error {
	w := s.worker(nil)
	defer w.close()
	c, err := s.create(ctx, w)
	if err != nil {
		return err
	}
	end := s.worker(x)
	defer end.close()
	if c, err = end.End(ctx, c.Grant.ID, operator, "end"); err != nil {
		return err
	}
	if _, err := end.Remove(ctx, c); err != nil && !errors.Is(err, grant.ErrLeaseLost) {
		return err
	}
	if !x.fired {
		return notReached("the removal", x.at)
	}
	return s.cleaned(ctx, c.Grant.ID, s.base)
}
