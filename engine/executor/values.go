package executor

import (
	"strconv"
	"strings"
	"time"

	"runner/engine/lang"
	"runner/engine/module"
)

// capture is how much of a stream a result keeps for later steps.
const capture = 1 << 20

// values builds the complete, typed result of a step from what the device said.
func values(outputs []module.Field, r StepResult, facts map[string]string, stdout, stderr string) map[string]any {
	stdout, stderr = strings.TrimSuffix(stdout, "\n"), strings.TrimSuffix(stderr, "\n")
	var lines []any
	if stdout != "" {
		for l := range strings.SplitSeq(stdout, "\n") {
			lines = append(lines, l)
		}
	}
	ran := r.Status != Skipped && r.Status != Unreachable
	v := map[string]any{
		"rc": int64(r.RC), "stdout": stdout, "stderr": stderr, "stdout_lines": lines,
		"changed": r.Status == Changed, "failed": r.Status == Failed, "skipped": r.Status == Skipped, "ran": ran,
		"attempts": int64(r.Attempts), "msg": r.Message, "started_at": r.Started.UTC(), "duration_ms": r.Ended.Sub(r.Started).Milliseconds(),
	}
	if lines == nil {
		v["stdout_lines"] = []any{}
	}
	for _, f := range outputs {
		v[f.Name] = typed(f.Type, facts[f.Name])
	}
	return v
}

// typed reads the text of an output; text that does not fit is the zero value,
// because a device may say anything.
func typed(t lang.Type, s string) any {
	switch t.Kind {
	case lang.IntKind:
		n, err := strconv.ParseInt(strings.TrimSpace(s), 10, 64)
		if err != nil {
			return int64(0)
		}
		return n
	case lang.BoolKind:
		return s == "true"
	case lang.FloatKind:
		f, err := strconv.ParseFloat(s, 64)
		if err != nil {
			return 0.0
		}
		return f
	case lang.TimeKind:
		at, err := time.Parse(time.RFC3339, s)
		if err != nil {
			return time.Time{}
		}
		return at.UTC()
	case lang.DurationKind:
		d, err := time.ParseDuration(s)
		if err != nil {
			return time.Duration(0)
		}
		return d
	case lang.ListKind:
		l := []any{}
		for e := range strings.SplitSeq(s, "\n") {
			if e != "" {
				l = append(l, e)
			}
		}
		return l
	case lang.MapKind:
		return map[string]any{}
	case lang.AnyKind, lang.StringKind, lang.SecretKind:
		return s
	}
	return s
}
