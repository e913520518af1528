package main

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"runner/engine"
	"runner/engine/grant"
	"runner/engine/journal"
)

// What goes to stderr starts with the name of the program: no capital letter,
// no full stop. Long work shows what it does: on a terminal one line that
// changes and a line for each step, elsewhere a line for each event.

// style colours text, or leaves it as it is.
type style bool

func (c style) paint(sgr, text string) string {
	if !c || text == "" {
		return text
	}
	return "\x1b[" + sgr + "m" + text + "\x1b[0m"
}

func (c style) red(text string) string    { return c.paint("31", text) }
func (c style) green(text string) string  { return c.paint("32", text) }
func (c style) yellow(text string) string { return c.paint("33", text) }
func (c style) dim(text string) string    { return c.paint("2", text) }

// say writes a message, each of its lines with the name of the program.
func (a *app) say(format string, args ...any) { a.write("runner: ", fmt.Sprintf(format, args...)) }

// hint writes what a person can do next.
func (a *app) hint(format string, args ...any) {
	a.write("runner: hint: ", fmt.Sprintf(format, args...))
}

// warn writes what is not as it should be, though the command goes on.
func (a *app) warn(format string, args ...any) {
	a.write("runner: "+a.color.yellow("warning")+": ", fmt.Sprintf(format, args...))
}

func (a *app) write(prefix, text string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.clear()
	for line := range strings.Lines(text + "\n") {
		_, _ = fmt.Fprint(a.stderr, prefix, line)
	}
}

// clear takes the changing line off the terminal; mu is held.
func (a *app) clear() {
	if a.bar != "" {
		_, _ = fmt.Fprint(a.stderr, "\r\x1b[K")
		a.bar = ""
	}
}

// settle is clear for the end of the work.
func (a *app) settle() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.clear()
}

// doing says what is being done now.
func (a *app) doing(text string) {
	if !a.errTTY {
		a.say("%s", text)
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.clear()
	a.bar = text
	_, _ = fmt.Fprint(a.stderr, "runner: "+a.color.dim(text+" …"))
}

// progress shows what the engine does.
func (a *app) progress(p engine.Progress) {
	about := ""
	if a.many {
		about = fmt.Sprintf("%s %s: ", p.Job.Kind, p.Grant.ID)
	}
	attempt := fmt.Sprint(p.Job.ID, " ", p.Job.Attempt)
	if p.Step == nil {
		a.inOrder(attempt, nil)
		a.doing(about + oneLine(p.Text))
		return
	}
	a.inOrder(attempt, &stepNews{n: p.Step.N, text: about + a.color.stepLine(*p.Step, p.Total)})
}

// stepNews is the line of a step that ended.
type stepNews struct {
	n    int
	text string
}

// maxQueues is how many attempts at jobs are remembered.
const maxQueues = 1000

// inOrder shows the steps of an attempt at a job in their order: that a step is
// skipped is often known before those in front of it have run. nil: show what
// is left.
func (a *app) inOrder(attempt string, news *stepNews) {
	a.mu.Lock()
	if len(a.queues) > maxQueues {
		maps.DeleteFunc(a.queues, func(_ string, q *stepQueue) bool { return len(q.waiting) == 0 })
	}
	q := a.queues[attempt]
	if q == nil {
		q = &stepQueue{}
		a.queues[attempt] = q
	}
	lines := q.take(news)
	a.mu.Unlock()
	for _, line := range lines {
		a.say("%s", line)
	}
}

// stepQueue holds the news of steps whose turn has not come.
type stepQueue struct {
	last    int // number of the last step that was shown
	waiting []stepNews
}

// take adds news and returns the lines whose turn it is; with nil all of them.
func (q *stepQueue) take(news *stepNews) []string {
	if news != nil {
		q.waiting = append(q.waiting, *news)
		slices.SortStableFunc(q.waiting, func(x, y stepNews) int { return x.n - y.n })
	}
	var lines []string
	for len(q.waiting) > 0 && (news == nil || q.waiting[0].n <= q.last+1) {
		q.last = q.waiting[0].n
		lines = append(lines, q.waiting[0].text)
		q.waiting = q.waiting[1:]
	}
	return lines
}

// rest shows what no job will show any more.
func (a *app) rest() {
	a.mu.Lock()
	jobs := slices.Sorted(maps.Keys(a.queues))
	a.mu.Unlock()
	for _, job := range jobs {
		a.inOrder(job, nil)
	}
	a.settle()
}

// stepLine tells what became of a step.
func (c style) stepLine(s grant.StepResult, total int) string {
	n := fmt.Sprintf("step %d/%d", s.N, max(s.N, total))
	text := fmt.Sprintf("%s %q: %s", n, oneLine(s.Name), c.status(s.Status))
	switch {
	case s.Status == "skipped":
		if s.Reason != "" {
			text += " (" + oneLine(s.Reason) + ")"
		}
		return text
	case s.RC != 0:
		text += fmt.Sprintf(" (exit %d, %s)", s.RC, short(s.Took))
	default:
		text += " (" + short(s.Took) + ")"
	}
	if s.Message != "" {
		text += ": " + oneLine(s.Message)
	}
	return text
}

// status colours the word for what became of a step or an execution.
func (c style) status(word string) string {
	switch word {
	case "ok", "removed", "active":
		return c.green(word)
	case "changed":
		return c.yellow(word)
	case "skipped":
		return c.dim(word)
	case "failed", "unreachable", "interrupted", "conflict":
		return c.red(word)
	}
	return word
}

// short writes a measured time: 41ms, 1.2s.
func short(d time.Duration) string {
	switch {
	case d < time.Second:
		return d.Round(time.Millisecond).String()
	case d < time.Minute:
		return d.Round(100 * time.Millisecond).String()
	}
	return d.Round(time.Second).String()
}

// oneLine makes a text that may come from a device fit for one line of a terminal.
func oneLine(s string) string {
	s = string(journal.Clean([]byte(s), false))
	return strings.TrimSpace(strings.NewReplacer("\n", " / ", "\t", " ").Replace(strings.TrimSpace(s)))
}

// logHandler writes what the engine logs in the voice of the program.
type logHandler struct {
	app   *app
	level slog.Level
	attrs []slog.Attr
}

// Enabled reports whether records of a level are written.
func (h *logHandler) Enabled(_ context.Context, l slog.Level) bool { return l >= h.level }

// Handle writes a record.
func (h *logHandler) Handle(_ context.Context, r slog.Record) error {
	var b strings.Builder
	b.WriteString(r.Message)
	add := func(at slog.Attr) bool {
		fmt.Fprintf(&b, " %s=%s", at.Key, oneLine(at.Value.Resolve().String()))
		return true
	}
	for _, at := range h.attrs {
		add(at)
	}
	r.Attrs(add)
	switch {
	case r.Level >= slog.LevelError:
		h.app.say("error: %s", b.String())
	case r.Level >= slog.LevelWarn:
		h.app.warn("%s", b.String())
	default:
		h.app.say("%s", b.String())
	}
	return nil
}

// WithAttrs returns a handler that adds attrs to every record.
func (h *logHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	c := *h
	c.attrs = append(slices.Clip(c.attrs), attrs...)
	return &c
}

// WithGroup returns the same handler: nothing here groups.
func (h *logHandler) WithGroup(string) slog.Handler { return h }
