package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"runner/engine"
	"runner/engine/executor"
	"runner/engine/grant"
	"runner/engine/lang"
	"runner/engine/transport"
)

// value draws anything that JSON can hold.
func value(depth int) *rapid.Generator[any] {
	scalar := rapid.OneOf(
		rapid.String().AsAny(), rapid.Bool().AsAny(), rapid.Int64().AsAny(), rapid.Just[any](nil),
		rapid.SampledFrom([]any{"", "no", "null", "1", "1e3", "0x1", "- a", "a: b", "#", "~", "2026-01-01", "a\nb", "\x1b[31m", "\u009b", "é", "yes ", ":", "a\u202eb"}))
	if depth == 0 {
		return scalar
	}
	key := rapid.OneOf(rapid.StringMatching(`[a-z_]{1,8}`), rapid.String())
	return rapid.OneOf(scalar,
		rapid.SliceOfN(value(depth-1), 0, 4).AsAny(),
		rapid.MapOfN(key, value(depth-1), 0, 4).AsAny())
}

// What -o yaml prints is what -o json prints.
func TestYAMLSaysWhatJSONSays(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		v := map[string]any{"v": value(3).Draw(t, "value")}
		text, err := asJSON(v)
		if err != nil {
			t.Fatal(err)
		}
		yaml, err := asYAML(text)
		if err != nil {
			t.Fatal(err)
		}
		docs, ps := lang.Parse("out.yaml", yaml)
		if len(ps) > 0 && tooOdd(ps) {
			t.Skip("the reader is stricter than YAML")
		}
		if len(ps) > 0 || len(docs) != 1 {
			t.Fatalf("%v\n%s", ps, yaml)
		}
		var want any
		if err := json.Unmarshal(text, &want); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, plainNode(t, docs[0])); diff != "" {
			t.Errorf("JSON and YAML differ: %s\n%s", diff, yaml)
		}
	})
}

// tooOdd reports problems that our own strict reader has with valid YAML.
func tooOdd(ps lang.Problems) bool {
	for _, p := range ps {
		if p.Code != "bad-key" && p.Code != "empty-key" {
			return false
		}
	}
	return true
}

// plainNode turns a node into what JSON gives.
func plainNode(t *rapid.T, n *lang.Node) any {
	switch n.Kind {
	case lang.MapNode:
		m := map[string]any{}
		for _, e := range n.Entries {
			m[e.Key.Text] = plainNode(t, e.Value)
		}
		return m
	case lang.ListNode:
		l := []any{}
		for _, it := range n.Items {
			l = append(l, plainNode(t, it))
		}
		return l
	case lang.NullNode:
		return nil
	case lang.ScalarNode:
	}
	if n.Quoted {
		return n.Text
	}
	var v any
	if json.Unmarshal([]byte(n.Text), &v) == nil {
		return v
	}
	return n.Text
}

func TestJSONCannotDriveATerminal(t *testing.T) {
	t.Parallel()
	in := map[string]string{"a": "\x1b[2J\u009b31m\u202e\u2028\x7f\x00 ok \U000e0041"}
	text, err := asJSON(in)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range string(text) {
		if r != '\n' && (r < ' ' || r >= 0x7f) {
			t.Errorf("%U stands in %q", r, text)
		}
	}
	var back map[string]string
	if err := json.Unmarshal(text, &back); err != nil {
		t.Fatal(err)
	}
	if want := strings.ReplaceAll(in["a"], "\U000e0041", "\ufffd"); back["a"] != want {
		t.Errorf("got %q, want %q", back["a"], want)
	}
}

func TestTablesCannotDriveATerminal(t *testing.T) {
	t.Parallel()
	p, _ := tempProcess(t)
	a := newApp(p)
	tab := table{head: []string{"A", "B"}}
	tab.add(false, "x\x1b]0;owned\x07\ty\nz", "\u202eevil\r")
	var b bytes.Buffer
	a.table(&b, tab)
	if got := strings.Count(b.String(), "\n"); got != 2 {
		t.Errorf("%d lines, want 2: %q", got, b.String())
	}
	if strings.ContainsAny(b.String(), "\x1b\x07\r\u202e") {
		t.Errorf("not clean: %q", b.String())
	}
}

func TestOverdueRowsComeFirstInRed(t *testing.T) {
	t.Parallel()
	p, _ := tempProcess(t)
	p.outTTY = true
	a := newApp(p)
	tab := table{head: []string{"A"}}
	tab.add(false, "fine")
	tab.add(true, "late")
	var b bytes.Buffer
	a.table(&b, tab)
	if want := "\x1b[2mA\x1b[0m\n\x1b[31mlate\x1b[0m\nfine\n"; b.String() != want {
		t.Errorf("got %q, want %q", b.String(), want)
	}
}

func TestSpansHaveTwoUnits(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]string{
		0: "0s", 59 * time.Second: "59s", time.Hour: "1h", 61 * time.Minute: "1h1m", 90 * time.Second: "1m30s",
		25 * time.Hour: "1d1h", 24*time.Hour + time.Second: "1d", time.Hour + time.Second: "1h", 400 * time.Millisecond: "0s",
	} {
		if got := span(d); got != want {
			t.Errorf("span(%s) = %s, want %s", d, got, want)
		}
	}
}

func TestExitCodesFollowErrors(t *testing.T) {
	t.Parallel()
	unreached := &transport.Error{Phase: transport.PhaseDial, SafeToRetry: true, Err: errors.New("refused")}
	lost := &transport.Error{Phase: transport.PhaseExec, Err: errors.New("lost")}
	for _, c := range []struct {
		err  error
		want int
	}{
		{nil, exitDone},
		{errors.New("anything"), exitFailed},
		{&grant.StateError{}, exitFailed},
		{usagef("no"), exitUsage},
		{&engine.InputError{Reason: "no"}, exitUsage},
		{fmt.Errorf("store: grant g-x: %w", grant.ErrNotFound), exitUsage},
		{&grant.AmbiguousError{}, exitUsage},
		{lang.Problems{{}}, exitFile},
		{fmt.Errorf("template: %w", lang.Problems{{}}), exitFile},
		{&engine.DeniedError{}, exitDenied},
		{unreached, exitUnreached},
		{lost, exitFailed},
		{exitWith(exitLeft), exitLeft},
		{&codeError{code: exitUndone, err: unreached}, exitUndone},
		{errors.Join(&engine.DeniedError{}, errors.New("close")), exitDenied},
	} {
		if got := codeOf(c.err); got != c.want {
			t.Errorf("%v: exit code %d, want %d", c.err, got, c.want)
		}
	}
}

func TestFailedUndoIsCounted(t *testing.T) {
	t.Parallel()
	step := &executor.StepError{}
	for want, err := range []error{nil, errors.Join(fmt.Errorf("x: %w", step)), errors.Join(errors.Join(step, fmt.Errorf("undoing it: %w", step)), nil)} {
		if got := stepErrors(err); got != want {
			t.Errorf("%v: %d, want %d", err, got, want)
		}
	}
}

func TestStepsAreShownInTheirOrder(t *testing.T) {
	t.Parallel()
	q := &stepQueue{}
	var got []string
	for _, n := range []int{3, 4, 1, 2, 7, 5} {
		got = append(got, q.take(&stepNews{n: n, text: strconv.Itoa(n)})...)
	}
	if diff := cmp.Diff([]string{"1", "2", "3", "4", "5"}, got); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"7"}, q.take(nil)); diff != "" {
		t.Error(diff)
	}
}

func TestSeguraWaitsForApprovalWhileTheRemovalWaits(t *testing.T) {
	t.Parallel()
	c := grant.New(grant.Grant{ID: "g-a", Creates: true}, "j-f", "j-r", time.Unix(0, 0))
	if got := seguraStatus(c.Removal(), &c); got != "Waiting approval" {
		t.Errorf("removal: %q", got)
	}
	if got := seguraStatus(c.Forward(), &c); got != "Scheduled" {
		t.Errorf("creation: %q", got)
	}
	c.Removal().LastError = "refused"
	if got := seguraStatus(c.Removal(), &c); got != "Error" {
		t.Errorf("removal that failed: %q", got)
	}
}
