package executor_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"runner/engine/executor"
)

// The undo that an author wrote runs for every script that may have done
// something, newest first, with the values that the script had.
func TestScriptsAreUndoneByTheirUndo(t *testing.T) {
	t.Parallel()
	for name, cut := range map[string]func(*device){
		"a later step fails":         func(*device) {},
		"cut off when it was done":   func(d *device) { d.cutAt, d.after = 4, true },
		"cut off before it was done": func(d *device) { d.cutAt = 4 },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDevice()
			cut(d)
			n := &notes{d: d}
			var run executor.Run
			res, err := start(t, d, "create", `
  - {name: one, shell: 'make "{{ params.name }}"', undo: 'remove "{{ params.name }}"'}
  - {name: never, when: not params.on, shell: 'make "never"', undo: 'remove "{{ params.name }}"'}
  - {name: told, register: told, put: {name: b, value: c}}
  - {name: two, shell: 'make "{{ told.value }}"', undo: 'remove "{{ told.value }}"'}
  - {name: three, shell: 'spoil "{{ params.name }}-half"', undo: 'remove "{{ params.name }}-half"'}
`, func(r *executor.Run) { r.Record, run = n, *r })
			if err == nil {
				t.Fatal("it did not fail")
			}
			d.cutAt = 0
			for id, c := range n.last {
				if c.Undo == nil || c.State == executor.Intended && c.Before != "absent" {
					t.Errorf("%s was stored as %+v", id, c)
				}
			}
			run.Recorded, run.ID = res.Changes, "x-1-undo"
			if _, conflicts, err := executor.Revert(t.Context(), run); err != nil || len(conflicts) > 0 {
				t.Fatalf("conflicts %v, error %v", conflicts, err)
			}
			if diff := cmp.Diff(map[string]string{}, d.objects); diff != "" {
				t.Errorf("left behind:\n%s", diff)
			}
		})
	}
}
