package verify

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"runner/engine/grant"
)

// thereBefore makes what the creation makes besides the account, as if
// somebody had made it long ago, and asks that it stays.
func thereBefore(ctx context.Context, s *stage) error {
	w := s.worker(nil)
	defer w.close()
	c, err := s.create(ctx, w)
	if err != nil {
		return err
	}
	made, err := s.look(ctx)
	if err != nil {
		return err
	}
	if err := s.cleaned(ctx, c.Grant.ID, s.base); err != nil {
		return err
	}
	script := again(diff(s.base, made), made, &c.Grant)
	if script == "" {
		return nil
	}
	if _, err := s.machine.Shell(ctx, "set -e\n"+script); err != nil {
		return fmt.Errorf("make what was there before: %w", err)
	}
	before, err := s.look(ctx)
	if err != nil {
		return err
	}
	if c, err = s.request(ctx, w); err != nil {
		return err
	}
	// The creation may refuse: then it has to leave everything alone, too.
	if c, err = w.RunJob(ctx, c.Forward().ID); err != nil {
		return err
	}
	if err := s.cleaned(ctx, c.Grant.ID, before); err != nil {
		if f, is := errors.AsType[*finding](err); is {
			f.reason = "what the creation needs was there before (" + strings.ReplaceAll(strings.TrimSpace(script), "\n", "; ") + "): " + f.reason
		}
		return err
	}
	s.spoilt = true
	return nil
}

// again is a script that makes the groups, folders and files that a creation
// made, but for those that bear the name of the account.
func again(made []Left, l *look, g *grant.Grant) string {
	var b strings.Builder
	for _, m := range made {
		if m.Change != Added || bears(m, g) || strings.ContainsAny(m.Where, "'\n") {
			continue
		}
		f := l.file(m.Where)
		switch {
		case m.Kind == "line" && m.Where == "/etc/group":
			if w := strings.Split(m.What, ":"); len(w) > 2 {
				fmt.Fprintf(&b, "groupadd -g %s %s\n", w[2], w[0])
			}
		case f == nil || m.Kind == "line":
		case m.Kind == "folder":
			fmt.Fprintf(&b, "mkdir -m %s '%s'\n", octal(f.mode), m.Where)
		case m.Kind == "file":
			fmt.Fprintf(&b, ": >'%[2]s'; chmod %[1]s '%[2]s'\n", octal(f.mode), m.Where)
		}
	}
	return b.String()
}

// stranger is somebody who has the name of a grant's account, or its uid.
type stranger struct{ sameUID bool }

// come makes the stranger, who has a home, files, a process and a crontab.
func (x stranger) come(ctx context.Context, s *stage, g *grant.Grant) (*look, error) {
	name, uid := g.Account, "60123"
	if x.sameUID {
		name, uid = "stranger", number(int(g.UID))
	}
	if _, err := s.machine.Exec(ctx, "/bin/sh", "-c", strangerComes, "sh", name, uid, leaveThings); err != nil {
		return nil, fmt.Errorf("make a stranger: %w", err)
	}
	s.spoilt = true
	return s.look(ctx)
}

const strangerComes = `set -e
groupadd -g "$2" -- "$1"
useradd -m -u "$2" -g "$2" -s /bin/sh -- "$1"
echo mine >"/home/$1/file"
echo "$1 ALL=(ALL) NOPASSWD: /bin/true" >/etc/sudoers.d/strangers-own
chmod 440 /etc/sudoers.d/strangers-own
setpriv --reuid="$2" --regid="$2" --clear-groups /bin/sh -c "$3" sh "$1"`

// create asks that a creation leaves the stranger alone. It may be refused, or
// take another uid.
func (x stranger) create(ctx context.Context, s *stage) error {
	w := s.worker(nil)
	defer w.close()
	c, err := s.request(ctx, w)
	if err != nil {
		return err
	}
	before, err := x.come(ctx, s, &c.Grant)
	if err != nil {
		return err
	}
	if c, err = w.RunJob(ctx, c.Forward().ID); err != nil {
		return err
	}
	if c.Grant.State == grant.Active && !x.sameUID {
		return &finding{reason: "an account was created though its name was taken"}
	}
	if err := s.cleaned(ctx, c.Grant.ID, before); err != nil {
		return x.blame(err)
	}
	return nil
}

// remove asks that a removal leaves the stranger alone, whatever it says.
func (x stranger) remove(ctx context.Context, s *stage) error {
	id, err := s.abandoned(ctx)
	if err != nil {
		return err
	}
	c, err := s.store.Case(ctx, id)
	if err != nil {
		return err
	}
	before, err := x.come(ctx, s, &c.Grant)
	if err != nil {
		return err
	}
	c, err = s.takeAway(ctx, id)
	if _, is := errors.AsType[*finding](err); err != nil && !is {
		return err
	}
	if err := s.same(ctx, before, "the removal touched what is somebody else's"); err != nil {
		return x.blame(err)
	}
	if c.Grant.State == grant.Removed {
		return &finding{reason: "the grant counts as removed though somebody else has its name or its uid"}
	}
	return nil
}

// blame says who was there when things went wrong.
func (x stranger) blame(err error) error {
	if f, is := errors.AsType[*finding](err); is {
		who := "somebody was there who has the name of the account and another uid: "
		if x.sameUID {
			who = "somebody was there who has the uid of the account and another name: "
		}
		f.reason = who + f.reason
	}
	return err
}
