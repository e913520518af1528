package verify_test

import (
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"runner/engine/module"
	"runner/engine/template"
	"runner/engine/verify"
	"runner/templates"
)

// pairs returns the create templates of a workspace, or the shipped ones, with
// their removals.
func pairs(t *testing.T, workspace string, shipped fs.FS) (list []verify.Config) {
	t.Helper()
	reg, err := module.All()
	if err != nil {
		t.Fatal(err)
	}
	lib, ps := template.Open(workspace, shipped, reg)
	if len(ps) > 0 {
		t.Fatal(ps.Err())
	}
	for _, tpl := range lib.All() {
		if tpl.Kind != template.Create || tpl.Platform != "linux" {
			continue
		}
		removal, err := lib.Get(template.Delete, tpl.Removal)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, verify.Config{Create: tpl, Delete: removal, Modules: reg})
	}
	return list
}

func tell(t *testing.T) func(verify.Case, int, int) {
	return func(c verify.Case, n, total int) {
		t.Logf("%d/%d %s %s: %s %s %v", n, total, c.Name, c.Step, c.Took.Round(time.Millisecond), c.Reason, c.Left)
	}
}

// most has as many steps of a shipped template run as can be.
var most = map[string]map[string]any{
	"linux-user": {"groups": []any{"adm"}, "sudo": "ALL=(ALL) NOPASSWD: /usr/bin/id"},
}

func TestShippedPairsPass(t *testing.T) {
	t.Parallel()
	list := pairs(t, "", templates.FS)
	if len(list) == 0 {
		t.Fatal("there is no shipped template")
	}
	for _, cfg := range list {
		t.Run(cfg.Create.Name, func(t *testing.T) {
			t.Parallel()
			cfg.Params, cfg.Tell = most[cfg.Create.Name], tell(t)
			r, err := verify.Run(t.Context(), cfg)
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%d cases in %s on %s", len(r.Cases), r.Took.Round(time.Millisecond), r.OS)
			if r.Failed() > 0 || r.Untried != "" || len(r.Cases) < 20 {
				t.Errorf("%d of %d cases failed; %s", r.Failed(), len(r.Cases), r.Untried)
			}
			for _, s := range r.NotRun {
				if strings.HasPrefix(s, "create: ") {
					t.Errorf("a step that was not tried: %s", s)
				}
			}
		})
	}
}

// Each of these has one mistake, which load does not see. What is found names
// the case, why it is wrong, and what it is about.
func TestWrongPairsAreFound(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]struct {
		only, failed string // one case that is tried; the cases that fail
		step         string // of the case that fails
		reason, left string
	}{
		"forgets-sudoers": {
			only: "delete before", failed: "create, then delete",
			reason: "the removal does not come to an end", left: "added file /etc/sudoers.d/ops-jit-",
		},
		"by-name-only": {
			only: "delete, and the name", failed: "delete, and the name is somebody else's",
			reason: "the removal touched what is somebody else's", left: "missing folder /home/jit-",
		},
		"removes-group": {
			only: "two grants", failed: "two grants at once",
			reason: "the removal of the first grant took away what the second one made or uses", left: "missing line in /etc/group: operators:x:",
		},
		"not-idempotent": {
			only: "twice", failed: "create twice",
			reason: `changed things again: step 3 "Name its workstation"`, left: "added line in /etc/hosts: 127.0.0.2 jit-",
		},
		"relies-on-outputs": {
			only: "create, killed when the step had begun", failed: "create, killed when the step had begun", step: "Read the account back",
			reason: "the removal does not come to an end", left: "added file /etc/sudoers.d/ops-jit-",
		},
		"not-resumable": {
			only: "delete, cut off", failed: "delete, cut off when the step was done", step: "Delete the account",
			reason: "the removal does not come to an end", left: "added file /etc/sudoers.d/ops-jit-",
		},
		"leaves-process": {
			only: "delete before", failed: "create, then delete",
			reason: "the receipt is empty, but the machine is not what it was", left: "added process: ",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := pairs(t, filepath.Join("..", "..", "testdata", "verify", name), nil)[0]
			cfg.Tell, cfg.Only = tell(t), want.only
			r, err := verify.Run(t.Context(), cfg)
			if err != nil {
				t.Fatal(err)
			}
			if len(r.Cases) < 2 {
				t.Errorf("only %d cases were tried", len(r.Cases))
			}
			for _, c := range r.Cases {
				wanted := c.Name == want.failed && c.Step == want.step
				if c.OK() == wanted && c.Step != "Allow sudo" { // that may have been over or not
					t.Errorf("%s %s: %q", c.Name, c.Step, c.Reason)
				}
				if !wanted {
					continue
				}
				if !strings.Contains(c.Reason, want.reason) {
					t.Errorf("the reason is %q", c.Reason)
				}
				if !slices.ContainsFunc(c.Left, func(l verify.Left) bool { return strings.HasPrefix(l.Change+" "+l.String(), want.left) }) {
					t.Errorf("nothing says %q: %v", want.left, c.Left)
				}
			}
		})
	}
}

// A group that was there stays, whoever needed it.
func TestAGroupThatWasThereIsMissed(t *testing.T) {
	t.Parallel()
	cfg := pairs(t, filepath.Join("..", "..", "testdata", "verify", "removes-group"), nil)[0]
	cfg.Tell, cfg.Only = tell(t), "there before"
	r, err := verify.Run(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if c := r.Cases[len(r.Cases)-1]; len(r.Cases) != 2 || c.OK() || !strings.Contains(fmt.Sprint(c.Left), "line in /etc/group: operators:x:") {
		t.Errorf("%d cases, the last: %+v", len(r.Cases), c)
	}
}
