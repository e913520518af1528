package main

import (
	"context"
	"fmt"
	"io"
	"iter"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"runner/engine/grant"
	"runner/engine/journal"
	"runner/engine/store"
)

func (a *app) executionCommand() *cobra.Command {
	return a.noun("execution", "review what ran on devices",
		"runner execution list --outcome failed\nrunner execution show x-abc --failed\nrunner execution log x-abc -f",
		a.executionList(), a.executionShow(), a.executionLog())
}

var outcomes = []string{"ok", "failed", "unreachable", "interrupted", "blocked", "running"}

func (a *app) executionList() *cobra.Command {
	var f grant.Filter
	c := leaf{
		use: "list", short: "list executions, latest first",
		example: "runner execution list\nrunner execution list --grant g-abc\nrunner execution list --outcome failed --device web-1 -o json",
		run: func(ctx context.Context, _ []string) error {
			if f.Outcome != "" {
				if err := knownWords("--outcome", []string{f.Outcome}, outcomes); err != nil {
					return err
				}
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
			if f.Job != "" {
				j, err := s.Job(ctx, f.Job)
				if err != nil {
					return err
				}
				f.Job = j.ID
			}
			xs, err := s.Executions(ctx, f)
			if err != nil {
				return err
			}
			views := make([]executionJSON, 0, len(xs))
			for i := range xs {
				views = append(views, viewExecution(&xs[i], nil, a.now()))
			}
			top, err := a.banner(ctx)
			if err != nil {
				return err
			}
			return a.answer(views, func(w io.Writer) { top(w); a.table(w, a.executionTable(views, true)) })
		},
	}.command()
	fs := c.Flags()
	fs.StringVar(&f.Grant, "grant", "", "only of this grant")
	fs.StringVar(&f.Job, "job", "", "only of this job")
	fs.StringVar(&f.Device, "device", "", "only on this device")
	fs.StringVar(&f.Outcome, "outcome", "", "only with this outcome: "+strings.Join(outcomes, ", "))
	fs.IntVar(&f.Limit, "limit", 100, "at most so many")
	return c
}

// executionTable shows executions; long says where and for which grant, too.
func (a *app) executionTable(xs []executionJSON, long bool) table {
	t := table{head: []string{"EXECUTION", "KIND", "OUTCOME", "STARTED", "TOOK", "ERROR"}}
	if long {
		t.head = []string{"EXECUTION", "KIND", "OUTCOME", "STARTED", "TOOK", "DEVICE", "GRANT", "ERROR"}
	}
	for _, x := range xs {
		cells := []string{x.ID, x.Kind, x.Outcome, stamp(x.Started), short(time.Duration(x.TookMS) * time.Millisecond)}
		if long {
			cells = append(cells, x.Device, x.GrantID)
		}
		t.add(false, append(cells, cut(oneLine(x.Error), 80))...)
	}
	return t
}

func (a *app) executionShow() *cobra.Command {
	var failed bool
	c := leaf{
		use: "show EXECUTION", short: "show an execution step by step",
		example: "runner execution show x-abc\nrunner execution show x-abc --failed\nrunner execution show x-abc -o json",
		long:    "With --failed only the steps that failed are shown, each with the output that it wrote.",
		args:    needs("EXECUTION"),
		run: func(ctx context.Context, args []string) error {
			s, err := a.store()
			if err != nil {
				return err
			}
			x, err := s.Execution(ctx, args[0])
			if err != nil {
				return err
			}
			steps, err := s.Steps(ctx, x.ID)
			if err != nil {
				return err
			}
			if failed {
				steps = onlyBroken(steps)
			}
			v := viewExecution(&x, steps, a.now())
			if a.machine() {
				return a.answer(v, nil)
			}
			return a.describeExecution(ctx, s, &x, &v, steps, failed)
		},
	}.command()
	c.Flags().BoolVar(&failed, "failed", false, "only the steps that failed, with their output")
	return c
}

func onlyBroken(steps []grant.StepResult) []grant.StepResult {
	var out []grant.StepResult
	for _, s := range steps {
		if broken(s.Status) {
			out = append(out, s)
		}
	}
	return out
}

func (a *app) describeExecution(ctx context.Context, s *store.Store, x *grant.Execution, v *executionJSON, steps []grant.StepResult, failed bool) error {
	err := a.answer(v, func(w io.Writer) {
		logged := ""
		if x.LogBytes > 0 {
			logged = fmt.Sprintf("%d bytes", x.LogBytes)
			if x.Dropped > 0 {
				logged += fmt.Sprintf(", %d of them not kept", x.Dropped)
			}
		}
		fields(w,
			field{"execution", v.ID}, field{"outcome", v.Outcome}, field{"error", v.Error}, field{"template", v.Template},
			field{"device", v.Device}, field{"answered", v.Peer}, field{"grant", v.GrantID}, field{"job", v.JobID},
			field{"attempt", strconv.Itoa(v.Attempt)}, field{"started", a.when(v.Started)},
			field{"took", short(took(x, a.now())) + ", " + short(x.Connect) + " of it to connect"}, field{"log", logged})
		if failed {
			return
		}
		section(w, "steps")
		t := table{head: []string{"#", "STATUS", "STEP", "MODULE", "TOOK", "RC", ""}}
		for _, st := range steps {
			note := st.Message
			if st.Status == "skipped" {
				note = st.Reason
			}
			t.rows = append(t.rows, row{cells: clean(strconv.Itoa(st.N), st.Status, st.Name, st.Module, short(st.Took), strconv.Itoa(st.RC), cut(oneLine(note), 100))})
		}
		a.table(w, t)
	})
	if err != nil || !failed {
		return err
	}
	return a.showBroken(ctx, s, x, steps)
}

// clean makes cells fit for a terminal.
func clean(cells ...string) []string {
	for i := range cells {
		cells[i] = oneLine(cells[i])
	}
	return cells
}

// showBroken shows the steps that failed with their output.
func (a *app) showBroken(ctx context.Context, s *store.Store, x *grant.Execution, steps []grant.StepResult) error {
	if len(steps) == 0 {
		_, err := fmt.Fprintln(a.stdout, "\nno step failed")
		return err
	}
	for _, st := range steps {
		_, _ = fmt.Fprintln(a.stdout, "\n"+a.outColor.stepLine(st, x.Steps))
		wanted := func(c grant.Chunk) bool { return c.Step == st.N }
		if err := a.writeChunks(upTo(journal.Read(ctx, s, x.ID, st.LogFrom), st.LogTo), st.LogFrom, false, wanted); err != nil {
			return err
		}
	}
	return nil
}

// upTo ends a log at an offset.
func upTo(chunks iter.Seq2[grant.Chunk, error], end int64) iter.Seq2[grant.Chunk, error] {
	return func(yield func(grant.Chunk, error) bool) {
		for c, err := range chunks {
			if err == nil && c.Offset >= end || !yield(c, err) {
				return
			}
		}
	}
}
