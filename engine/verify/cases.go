package verify

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"runner/engine"
	"runner/engine/executor"
	"runner/engine/grant"
	"runner/engine/inventory"
	"runner/engine/secret"
)

// try is one case: what is done and what has to come of it. It returns a
// *finding when the templates are wrong, and another error when it could not
// be tried.
type try struct {
	name string
	step string // of a template, for a case that is about one
	// creates says that an account is created and deleted in it: nothing new
	// comes of that when it goes wrong without anything else.
	creates bool
	do      func(ctx context.Context, s *stage) error
}

// plain are the cases that do not depend on the steps of the templates.
func plain() []try {
	return []try{
		{name: "create, leave things in a session, delete", creates: true, do: session},
		{name: "create twice", creates: true, do: createTwice},
		{name: "delete twice", creates: true, do: deleteTwice},
		{name: "delete before anything was created", do: deleteFirst},
		{name: "two grants at once", creates: true, do: twoAtOnce},
		{name: "what was there before stays", creates: true, do: thereBefore},
		{name: "create, and the name is taken", creates: true, do: stranger{}.create},
		{name: "delete, and the name is somebody else's", do: stranger{}.remove},
		{name: "create, and the uid is taken", creates: true, do: stranger{sameUID: true}.create},
		{name: "delete, and the uid is somebody else's", do: stranger{sameUID: true}.remove},
	}
}

// life creates and deletes, and tells which steps there are to be cut off.
type life struct {
	forward, removal []point
	skipped          []string // steps that never ran
}

// last is the end of a removal.
func (l *life) last() point {
	if len(l.removal) == 0 {
		return point{}
	}
	return l.removal[len(l.removal)-1]
}

func (l *life) do(ctx context.Context, s *stage) error {
	w := s.worker(nil)
	defer w.close()
	c, err := s.create(ctx, w)
	if err != nil {
		return err
	}
	l.forward = w.began
	end := s.worker(nil)
	defer end.close()
	if c, err = end.End(ctx, c.Grant.ID, operator, "end"); err != nil {
		return err
	}
	if c, err = end.Remove(ctx, c); err != nil {
		return err
	}
	l.removal = end.began
	if l.skipped, err = s.skipped(ctx, &c); err != nil {
		return err
	}
	return s.cleaned(ctx, c.Grant.ID, s.base)
}

// skipped names the steps of a grant's jobs that did not run.
func (s *stage) skipped(ctx context.Context, c *grant.Case) ([]string, error) {
	var out []string
	for _, j := range c.Jobs {
		results, err := s.store.Steps(ctx, j.Execution)
		if err != nil {
			return nil, err
		}
		for _, r := range results {
			if r.Status == string(executor.Skipped) {
				out = append(out, fmt.Sprintf("%s: step %d %q (%s)", j.Kind, r.N, r.Name, r.Reason))
			}
		}
	}
	return out, nil
}

// session has the person leave behind what people leave behind.
func session(ctx context.Context, s *stage) error {
	w := s.worker(nil)
	defer w.close()
	c, err := s.create(ctx, w)
	if err != nil {
		return err
	}
	now, err := s.look(ctx)
	if err != nil {
		return err
	}
	if a := now.account(c.Grant.Account); a != nil {
		if _, err := s.machine.Exec(ctx, "setpriv", "--reuid="+a.uid, "--regid="+a.gid, "--clear-groups", "/bin/sh", "-c", leaveThings, "sh", a.name); err != nil {
			return fmt.Errorf("act as %s: %w", a.name, err)
		}
	}
	return s.cleaned(ctx, c.Grant.ID, s.base)
}

// leaveThings leaves files, a process that does not want to end, and a crontab.
const leaveThings = `umask 022
for d in /tmp /var/tmp /dev/shm; do mkdir "$d/$1.verify"; echo x >"$d/$1.verify/file"; done
(trap '' TERM HUP INT; exec sleep 100000) </dev/null >/dev/null 2>&1 &
if command -v crontab >/dev/null; then echo '@yearly true' | crontab - 2>/dev/null; fi
:`

// account is a line of the machine's /etc/passwd.
type account struct{ name, uid, gid string }

func (l *look) account(name string) *account {
	f := l.file("/etc/passwd")
	if f == nil {
		return nil
	}
	for line := range strings.Lines(string(f.text)) {
		if w := strings.Split(line, ":"); len(w) > 3 && w[0] == name {
			return &account{w[0], w[2], w[3]}
		}
	}
	return nil
}

// createTwice asks that a second creation is refused, or changes nothing.
func createTwice(ctx context.Context, s *stage) error {
	w := s.worker(nil)
	defer w.close()
	c, err := s.create(ctx, w)
	if err != nil {
		return err
	}
	once, err := s.look(ctx)
	if err != nil {
		return err
	}
	res, err := w.Repeat(ctx, c.Grant.ID)
	refusal, refused := errors.AsType[*executor.StepError](err)
	if err != nil && !refused {
		return &finding{reason: "the second creation ended without an answer: " + err.Error()}
	}
	reason := "the second creation was accepted and changed things again"
	if refused {
		reason = fmt.Sprintf("the second creation was refused (%v), but not before it had changed things", refusal)
	} else if steps := changedBy(res); steps != "" {
		reason += ": " + steps
	}
	if err := s.same(ctx, once, reason); err != nil {
		return err
	}
	if err := s.works(ctx, w, c); err != nil {
		return &finding{reason: "after the second creation the account does not work any more: " + err.Error()}
	}
	return s.cleaned(ctx, c.Grant.ID, s.base)
}

func changedBy(res engine.AdHocResult) string {
	var names []string
	for _, r := range res.Steps {
		if r.Status == string(executor.Changed) {
			names = append(names, fmt.Sprintf("step %d %q", r.N, r.Name))
		}
	}
	return strings.Join(names, ", ")
}

// works logs in as the account of a grant. One that has neither password nor
// key of its own is not tried.
func (s *stage) works(ctx context.Context, w *worker, c grant.Case) error {
	_, sec, err := w.Collect(ctx, c.Grant.ID, operator)
	if err != nil {
		return err
	}
	if sec.Password == "" && sec.PrivateKey == "" {
		return nil
	}
	cn, err := s.set.Resolve(credential)
	if err != nil {
		return err
	}
	return login(ctx, w, cn, sec)
}

func login(ctx context.Context, w *worker, cn *inventory.Connection, sec *engine.Secret) error {
	l := engine.Login{Account: sec.Account}
	if sec.PrivateKey != "" {
		l.PrivateKey = secret.New(sec.PrivateKey)
	} else {
		l.Password = secret.New(sec.Password)
	}
	return w.Dialer.Prove(ctx, cn, l)
}

// deleteTwice runs a whole removal whose worker is killed before it could
// store any of it, and the removal once more.
func deleteTwice(ctx context.Context, s *stage) error {
	w := s.worker(nil)
	defer w.close()
	c, err := s.create(ctx, w)
	if err != nil {
		return err
	}
	last := s.worker(&cut{at: s.last, when: heard})
	defer last.close()
	if c, err = last.End(ctx, c.Grant.ID, operator, "end"); err != nil {
		return err
	}
	if _, err := last.Remove(ctx, c); err != nil && !errors.Is(err, grant.ErrLeaseLost) {
		return err
	}
	if !last.cut.fired {
		return notReached("the removal", s.last)
	}
	return s.cleaned(ctx, c.Grant.ID, s.base)
}

func notReached(what string, p point) *finding {
	return &finding{reason: fmt.Sprintf("%s did not come to %q, as it did before", what, p.name)}
}

// deleteFirst has the worker of the creation die before it connects.
func deleteFirst(ctx context.Context, s *stage) error {
	id, err := s.abandoned(ctx)
	if err != nil {
		return err
	}
	return s.cleaned(ctx, id, s.base)
}

// abandoned returns a grant for which nothing was created and whose removal is
// due all the same: nobody can know.
func (s *stage) abandoned(ctx context.Context) (string, error) {
	w := s.worker(&cut{dial: true})
	defer w.close()
	c, err := s.request(ctx, w)
	if err != nil {
		return "", err
	}
	if _, err := w.RunJob(ctx, c.Forward().ID); err != nil && !errors.Is(err, grant.ErrLeaseLost) {
		return "", err
	}
	return c.Grant.ID, nil
}

// twoAtOnce makes two accounts, takes the first away, and asks that the second
// has everything it had.
func twoAtOnce(ctx context.Context, s *stage) error {
	w := s.worker(nil)
	defer w.close()
	a, err := s.create(ctx, w)
	if err != nil {
		return err
	}
	b, err := s.create(ctx, w)
	if err != nil {
		return &finding{reason: "with one grant active a second one is not possible: " + err.Error()}
	}
	two, err := s.look(ctx)
	if err != nil {
		return err
	}
	if _, err := s.takeAway(ctx, a.Grant.ID); err != nil {
		return err
	}
	after, err := s.look(ctx)
	if err != nil {
		return err
	}
	if lost := lostOf(diff(two, after), &a.Grant); len(lost) > 0 {
		return &finding{reason: "the removal of the first grant took away what the second one made or uses", left: lost}
	}
	if err := s.works(ctx, w, b); err != nil {
		return &finding{reason: "after the removal of the first grant the account of the second one does not work any more: " + err.Error()}
	}
	return s.cleaned(ctx, b.Grant.ID, s.base)
}

// lostOf returns what is missing now, but for what is the first grant's own:
// whatever it made besides, the second one needs just as much.
func lostOf(now []Left, first *grant.Grant) []Left {
	return slices.DeleteFunc(now, func(l Left) bool { return l.Change != Missing || l.Kind == "process" || bears(l, first) })
}

// bears reports whether something bears the name of a grant's account, its uid
// or the grant's id.
func bears(l Left, g *grant.Grant) bool {
	text := l.Where + " " + l.What
	return strings.Contains(text, g.Account) || strings.Contains(text, number(int(g.UID))) || strings.Contains(text, g.ID)
}
