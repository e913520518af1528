package executor_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"runner/engine/executor"
)

const tagged = `
  - {name: plain, put: {name: plain, value: x}}
  - {name: one, tags: [a, b], register: one, put: {name: one, value: x}}
  - tags: [b]
    block:
      - {name: two, put: {name: two, value: x}}
      - {name: three, tags: [c], loop: [p, q], put: {name: "{{ item }}", value: x}}
  - {name: ever, tags: [always], when: not one.changed, put: {name: ever, value: x}}
  - {name: pair, tags: [d], include: {file: common/pair.yaml, params: {name: in}}}
`

func TestTagsSelectSteps(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		only, except []string
		want         string // the steps that ran
	}{
		{nil, nil, "plain one two three first second"},
		{[]string{"a"}, nil, "one"},
		{[]string{"b"}, nil, "one two three"},
		{[]string{"b"}, []string{"c"}, "one two"},
		{[]string{"c", "d"}, nil, "three ever first second"},
		{nil, []string{"b", "always", "d"}, "plain"},
	} {
		for _, unfused := range []bool{false, true} {
			res, err := start(t, newDevice(), "delete", tagged, func(r *executor.Run) { r.Only, r.Except, r.NoFuse = c.only, c.except, unfused })
			if err != nil {
				t.Fatal(err)
			}
			var ran []string
			for _, r := range res.Steps {
				if r.Status != executor.Skipped {
					ran = append(ran, r.Name)
				} else if r.Reason == "" || len(r.Values) == 0 {
					t.Errorf("%+v", r)
				}
			}
			if diff := cmp.Diff(c.want, strings.Join(ran, " ")); diff != "" {
				t.Errorf("%v %v: %s", c.only, c.except, diff)
			}
			if len(res.Steps) != res.Total {
				t.Error(fmt.Sprint(len(res.Steps), " of ", res.Total))
			}
		}
	}
}
