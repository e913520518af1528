package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"runner/engine/grant"
	"runner/engine/store"
)

func (a *app) jobCommand() *cobra.Command {
	return a.noun("job", "look at planned work, run it, pause it",
		"runner job list\nrunner job list --state waiting --device web-1\nrunner job run j-abc",
		a.jobList(), a.jobShow(), a.jobRun(), a.jobPause(), a.jobResume())
}

var jobStates = []string{
	string(grant.Waiting), string(grant.Running), string(grant.Done), string(grant.Paused), string(grant.JobCancelled),
}

func (a *app) jobList() *cobra.Command {
	var (
		f   grant.Filter
		all bool
	)
	c := leaf{
		use: "list", short: "list the jobs that are not done",
		example: "runner job list\nrunner job list --grant g-abc --all\nrunner job list --state waiting -o json",
		long: `The removal of a grant waits here from the first moment. Overdue removals come
first.`,
		run: func(ctx context.Context, _ []string) error {
			if err := knownWords("--state", f.States, jobStates); err != nil {
				return err
			}
			if len(f.States) == 0 && !all {
				f.States = []string{string(grant.Waiting), string(grant.Running), string(grant.Paused)}
			}
			s, err := a.store()
			if err != nil {
				return err
			}
			if f.Grant != "" {
				c, err := s.Case(ctx, f.Grant)
				if err != nil {
					return err
				}
				f.Grant = c.Grant.ID
			}
			js, err := s.Jobs(ctx, f)
			if err != nil {
				return err
			}
			views, err := a.viewJobs(ctx, s, js)
			if err != nil {
				return err
			}
			a.noteEmpty(len(js), all || len(f.States) == 1, "no job is open; --all shows those that are done")
			top, err := a.banner(ctx)
			if err != nil {
				return err
			}
			return a.answer(views, func(w io.Writer) { top(w); a.table(w, a.jobTable(views, true)) })
		},
	}.command()
	fs := c.Flags()
	fs.BoolVar(&all, "all", false, "also those that are done or cancelled")
	fs.StringSliceVar(&f.States, "state", nil, "only in these states: "+strings.Join(jobStates, ", "))
	fs.StringVar(&f.Grant, "grant", "", "only of this grant")
	fs.StringVar(&f.Device, "device", "", "only on this device")
	fs.StringVar(&f.Requester, "requester", "", "only of grants of this requester")
	fs.IntVar(&f.Limit, "limit", 0, "at most so many (default 1000)")
	return c
}

// viewJobs looks up the grants of jobs. Overdue removals come first.
func (a *app) viewJobs(ctx context.Context, s *store.Store, js []grant.Job) ([]jobJSON, error) {
	now := a.now()
	cases := map[string]*grant.Case{}
	views := make([]jobJSON, 0, len(js))
	for i := range js {
		c := cases[js[i].GrantID]
		if c == nil {
			got, err := s.Case(ctx, js[i].GrantID)
			if err != nil {
				return nil, err
			}
			c = &got
			cases[js[i].GrantID] = c
		}
		views = append(views, viewJob(&js[i], c, now))
	}
	slices.SortStableFunc(views, func(x, y jobJSON) int { return min(1, int(y.Overdue)) - min(1, int(x.Overdue)) })
	return views, nil
}

// jobTable shows jobs; owners says whether whose they are.
func (a *app) jobTable(js []jobJSON, owners bool) table {
	t := table{head: []string{"JOB", "KIND", "STATE", "DUE", "TRIED", "BLOCKED BY"}}
	if owners {
		t.head = []string{"JOB", "KIND", "STATE", "DUE", "REQUESTER", "DEVICE", "ACCOUNT", "GRANT", "TRIED", "BLOCKED BY"}
	}
	for _, j := range js {
		due := a.when(j.Due)
		switch {
		case j.State == string(grant.Done) || j.State == string(grant.JobCancelled):
			due = stamp(j.Finished)
		case j.State == string(grant.Paused):
			due = "paused until " + stamp(j.PausedUntil)
		case j.Overdue > 0:
			due += ", overdue for " + span(time.Duration(j.Overdue)*time.Second)
		}
		cells := []string{j.ID, j.Kind, j.State, due}
		if owners {
			cells = append(cells, j.Requester, j.Device, j.Account, j.GrantID)
		}
		t.add(j.Overdue > 0, append(cells, tried(j.Attempt), cut(j.BlockedBy, 60))...)
	}
	return t
}

func tried(n int) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf("%dx", n)
}

// job loads a job with its grant.
func (a *app) job(ctx context.Context, s *store.Store, id string) (grant.Job, grant.Case, error) {
	j, err := s.Job(ctx, id)
	if err != nil {
		return j, grant.Case{}, err
	}
	c, err := s.Case(ctx, j.GrantID)
	return j, c, err
}

func (a *app) jobShow() *cobra.Command {
	return leaf{
		use: "show JOB", short: "show a job: when it is due, what is in the way",
		example: "runner job show j-abc\nrunner job show j-abc -o json",
		args:    needs("JOB"),
		run: func(ctx context.Context, args []string) error {
			s, err := a.store()
			if err != nil {
				return err
			}
			j, c, err := a.job(ctx, s, args[0])
			if err != nil {
				return err
			}
			return a.answerJob(&j, &c)
		},
	}.command()
}

func (a *app) answerJob(j *grant.Job, c *grant.Case) error {
	v := viewJob(j, c, a.now())
	return a.answer(v, func(w io.Writer) {
		overdue, more := "", ""
		if v.Overdue > 0 || v.BlockedBy != "" {
			more = "runner grant explain " + v.GrantID
		}
		if v.Overdue > 0 {
			overdue = span(time.Duration(v.Overdue) * time.Second)
		}
		fields(w,
			field{"job", v.ID}, field{"kind", v.Kind}, field{"state", v.State}, field{"grant", v.GrantID}, field{"requester", v.Requester},
			field{"credential", v.Credential}, field{"device", v.Device}, field{"account", v.Account}, field{"due", a.when(v.Due)},
			field{"overdue for", overdue}, field{"tried", tried(v.Attempt)}, field{"paused until", a.when(v.PausedUntil)},
			field{"first failed", a.when(v.FirstFailed)}, field{"last error", v.LastError}, field{"blocked by", v.BlockedBy},
			field{"execution", v.Execution}, field{"running on", v.Node}, field{"finished", a.when(v.Finished)}, field{"more", more})
	})
}

func (a *app) jobRun() *cobra.Command {
	return leaf{
		use: "run JOB", short: "run a job now instead of when it is due",
		example: "runner job run j-abc",
		long: `For a removal that waits for its next attempt. The removal of an active grant is
not brought forward by it: runner grant end does that.`,
		args: needs("JOB"), exits: []int{exitDenied, exitUnreached, exitUndone, exitLeft, exitInterrupted},
		run: func(ctx context.Context, args []string) error {
			e, err := a.removing(ctx)
			if err != nil {
				return err
			}
			j, who, err := a.heldJob(ctx, args[0], "run its jobs")
			if err != nil {
				return err
			}
			c, err := e.RunNow(ctx, j, who.name)
			if err != nil {
				return err
			}
			if ran := c.Job(j.ID); ran != nil {
				j = *ran
			}
			if err := a.answerJob(&j, &c); err != nil {
				return err
			}
			switch {
			case j.Kind.Removal() && !c.Grant.State.Final():
				a.explainLeft(&c)
				return exitWith(exitLeft)
			case !j.Kind.Removal() && j.Kind != grant.Renew && c.Grant.State != grant.Active:
				if c, err = a.finish(ctx, e, c); err != nil {
					return err
				}
				return a.explainFailure(ctx, &c)
			}
			return nil
		},
	}.command()
}

// heldJob loads a job of a grant that the caller may act on.
func (a *app) heldJob(ctx context.Context, id, what string) (grant.Job, person, error) {
	who, err := a.who()
	if err != nil {
		return grant.Job{}, who, err
	}
	s, err := a.store()
	if err != nil {
		return grant.Job{}, who, err
	}
	j, c, err := a.job(ctx, s, id)
	if err != nil {
		return j, who, err
	}
	return j, who, who.mine(&c.Grant, what)
}

func (a *app) jobPause() *cobra.Command {
	var (
		length time.Duration
		until  string
	)
	c := leaf{
		use: "pause JOB --for DURATION | --until TIME", short: "keep a removal from being tried until a time",
		example: "runner job pause j-abc --for 2h\nrunner job pause j-abc --until 2026-01-31T18:00:00Z",
		long: `For operators, and audited. A removal can be paused but never cancelled: when the
time has come it is tried again.`,
		args: needs("JOB"), exits: []int{exitDenied},
		run: func(ctx context.Context, args []string) error {
			to, err := a.moment("pause", length, until)
			if err != nil {
				return err
			}
			return a.steer(ctx, args[0], "pause jobs", func(e steering, j grant.Job, who string) error { return e.Pause(ctx, j, to, who) })
		},
	}.command()
	c.Flags().DurationVar(&length, "for", 0, "how long from now, such as 2h")
	c.Flags().StringVar(&until, "until", "", "until when, such as 2026-01-31T18:00:00Z")
	return c
}

// moment is what --for or --until say.
func (a *app) moment(verb string, length time.Duration, until string) (time.Time, error) {
	if (length != 0) == (until != "") {
		return time.Time{}, usagef("%s needs either --for or --until", verb)
	}
	if until == "" {
		return a.now().Add(length), nil
	}
	to, err := time.Parse(time.RFC3339, until)
	if err != nil {
		return time.Time{}, usagef("--until is %q: write a time such as 2026-01-31T18:00:00Z", until)
	}
	return to, nil
}

func (a *app) jobResume() *cobra.Command {
	return leaf{
		use: "resume JOB", short: "end the pause of a removal",
		example: "runner job resume j-abc",
		args:    needs("JOB"), exits: []int{exitDenied},
		run: func(ctx context.Context, args []string) error {
			return a.steer(ctx, args[0], "resume jobs", func(e steering, j grant.Job, who string) error { return e.Resume(ctx, j, who) })
		},
	}.command()
}

// steering is what operators do to a job without running it.
type steering interface {
	Pause(ctx context.Context, j grant.Job, until time.Time, actor string) error
	Resume(ctx context.Context, j grant.Job, actor string) error
}

// steer lets an operator change a job and prints it.
func (a *app) steer(ctx context.Context, id, what string, do func(steering, grant.Job, string) error) error {
	e, err := a.removing(ctx)
	if err != nil {
		return err
	}
	j, who, err := a.heldJob(ctx, id, what)
	if err == nil {
		err = who.asOperator(what)
	}
	if err != nil {
		return err
	}
	if err := do(e, j, who.name); err != nil {
		return err
	}
	c, err := e.Store.Case(ctx, j.GrantID)
	if err != nil {
		return err
	}
	return a.answerJob(c.Job(j.ID), &c)
}
