package main

import (
	"context"
	"fmt"
	"io"
	"iter"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"runner/engine/grant"
	"runner/engine/journal"
	"runner/engine/store"
)

// logFlags say what of a log is shown, and how.
type logFlags struct {
	follow, times, failed bool
	step                  string
}

func (f *logFlags) add(c *cobra.Command) {
	c.Flags().BoolVarP(&f.follow, "follow", "f", false, "go on while it runs")
	c.Flags().BoolVar(&f.times, "timestamps", false, "when each line arrived, UTC")
}

func (a *app) executionLog() *cobra.Command {
	var f logFlags
	c := leaf{
		use: "log EXECUTION", short: "show what an execution wrote",
		example: "runner execution log x-abc\nrunner execution log x-abc --failed\nrunner execution log x-abc --step 3 --timestamps\nrunner execution log x-abc -f",
		long: `Each line starts with the number of its step and its stream: out, err, or ---
for what runner itself has to say. With -o json each chunk is an object on a line,
its bytes in base64 as data.`,
		args: needs("EXECUTION"),
		run: func(ctx context.Context, args []string) error {
			s, err := a.store()
			if err != nil {
				return err
			}
			x, err := s.Execution(ctx, args[0])
			if err != nil {
				return err
			}
			return a.showLog(ctx, s, x, f)
		},
	}.command()
	f.add(c)
	c.Flags().BoolVar(&f.failed, "failed", false, "only the steps that failed")
	c.Flags().StringVar(&f.step, "step", "", "only this step, by number or name")
	return c
}

func (a *app) grantLog() *cobra.Command {
	var f logFlags
	c := leaf{
		use: "log GRANT", short: "show what all executions of a grant wrote, in order",
		example: "runner grant log g-abc\nrunner grant log g-abc -f --timestamps",
		args:    needs("GRANT"),
		run: func(ctx context.Context, args []string) error {
			s, err := a.store()
			if err != nil {
				return err
			}
			return a.showGrantLog(ctx, s, args[0], f)
		},
	}.command()
	f.add(c)
	return c
}

// showGrantLog shows the logs of a grant's executions, and with -f of those to
// come, until the grant is over.
func (a *app) showGrantLog(ctx context.Context, s *store.Store, id string, f logFlags) error {
	seen := map[string]bool{}
	for {
		c, err := s.Case(ctx, id) // before the executions: none comes after the end
		if err != nil {
			return err
		}
		xs, err := s.Executions(ctx, grant.Filter{Grant: c.Grant.ID})
		if err != nil {
			return err
		}
		for _, x := range slices.Backward(xs) {
			if seen[x.ID] {
				continue
			}
			seen[x.ID] = true
			if !a.machine() {
				_, _ = fmt.Fprintf(a.stdout, "== %s %s on %s, attempt %d, %s\n", x.Kind, x.ID, oneLine(x.Device), x.Attempt, stamp(x.Started))
			}
			if err := a.showLog(ctx, s, x, f); err != nil {
				return err
			}
		}
		if !f.follow || c.Grant.State.Final() {
			return nil
		}
		if pause(ctx, pollEvery) != nil {
			return nil // told to stop
		}
	}
}

// showLog writes the log of an execution.
func (a *app) showLog(ctx context.Context, s *store.Store, x grant.Execution, f logFlags) error {
	want, err := wantedSteps(ctx, s, x.ID, f)
	if err != nil {
		return err
	}
	chunks := journal.Read(ctx, s, x.ID, 0)
	if f.follow {
		chunks = journal.Follow(ctx, s, x.ID, 0, 0, func(ctx context.Context) (bool, error) {
			now, err := s.Execution(ctx, x.ID)
			return err == nil && !now.Ended.IsZero(), err
		})
	}
	titles := &stepTitles{app: a, load: func() ([]grant.StepResult, error) { return s.Steps(ctx, x.ID) }, want: want, total: x.Steps}
	err = a.writeChunks(titles.between(chunks), 0, f.times, func(c grant.Chunk) bool { return want == nil || want[c.Step] })
	if ctx.Err() != nil && f.follow {
		return nil // told to stop following
	}
	if x.LogBytes > 0 && x.Dropped == x.LogBytes {
		a.say("what it wrote (%s) is not kept any more: retention in runner.yaml says for how long", bytesText(x.LogBytes))
	}
	if err != nil {
		return err
	}
	return titles.upTo(math.MaxInt)
}

// stepTitles writes, between the output of steps, what became of each.
type stepTitles struct {
	app   *app
	load  func() ([]grant.StepResult, error)
	want  map[int]bool // nil: all
	total int
	done  int // number of the last step that was titled
	seen  int // number of the last step with output
}

// between passes a log on and writes the titles where they belong.
func (t *stepTitles) between(chunks iter.Seq2[grant.Chunk, error]) iter.Seq2[grant.Chunk, error] {
	return func(yield func(grant.Chunk, error) bool) {
		for c, err := range chunks {
			if err == nil && c.Step > t.seen {
				t.seen = c.Step
				err = t.upTo(c.Step)
			}
			if !yield(c, err) {
				return
			}
		}
	}
}

// upTo writes the titles of the steps up to number n that are over. Those that
// are not yet get theirs after their output.
func (t *stepTitles) upTo(n int) error {
	if t.app.machine() {
		return nil
	}
	steps, err := t.load()
	if err != nil {
		return err
	}
	for _, s := range steps {
		if s.N <= t.done || s.N > n {
			continue
		}
		t.done = s.N
		if t.want == nil || t.want[s.N] {
			if _, err := fmt.Fprintln(t.app.stdout, "-- "+t.app.outColor.stepLine(s, t.total)); err != nil {
				return err
			}
		}
	}
	return nil
}

// writeChunks writes the chunks of a log that are wanted; the log is read from
// an offset on. What is left out on purpose is not reported as missing.
func (a *app) writeChunks(chunks iter.Seq2[grant.Chunk, error], from int64, times bool, wanted func(grant.Chunk) bool) error {
	style := journal.Style{Color: bool(a.outColor), Times: times}
	var out *journal.Formatter
	for c, err := range chunks {
		if err != nil {
			return err
		}
		switch {
		case !wanted(c):
			if out != nil {
				err = out.Close()
			}
			out = nil
		case a.machine():
			err = a.printChunk(c)
		default:
			if out == nil {
				style.From = from
				out = journal.NewFormatter(a.stdout, style)
			}
			err = out.Chunk(c)
		}
		if err != nil {
			return err
		}
		from = c.End()
	}
	if out == nil {
		return nil
	}
	return out.Close()
}

// printChunk writes a chunk as a line of JSON, or a document of YAML.
func (a *app) printChunk(c grant.Chunk) error {
	text, err := asJSON(c)
	if err != nil {
		return err
	}
	if a.flags.output == outYAML {
		if text, err = asYAML(text); err != nil {
			return err
		}
		_, err = io.WriteString(a.stdout, "---\n"+string(text))
		return err
	}
	_, err = io.WriteString(a.stdout, strings.ReplaceAll(strings.TrimSpace(string(text)), "\n", "")+"\n")
	return err
}

// wantedSteps returns the numbers of the steps to show; nil: everything.
func wantedSteps(ctx context.Context, s *store.Store, id string, f logFlags) (map[int]bool, error) {
	if !f.failed && f.step == "" {
		return nil, nil //nolint:nilnil // no restriction
	}
	steps, err := s.Steps(ctx, id)
	if err != nil {
		return nil, err
	}
	want := map[int]bool{}
	for _, st := range steps {
		if (!f.failed || broken(st.Status)) && (f.step == "" || f.step == strconv.Itoa(st.N) || strings.EqualFold(f.step, st.Name)) {
			want[st.N] = true
		}
	}
	if len(want) == 0 && f.step != "" {
		return nil, usagef("execution %s has no step %q (runner execution show %s lists them)", id, f.step, id)
	}
	return want, nil
}

// broken reports whether a step did not do what it should.
func broken(status string) bool {
	return status == "failed" || status == "unreachable" || status == "interrupted"
}

func sortedKeys(m map[string]string) []string { return slices.Sorted(maps.Keys(m)) }
