package executor_test

import (
	"testing"

	"runner/engine/executor"
	"runner/engine/lang"
	"runner/engine/template"
)

// What a script with a probe finds on a Windows host was there before: it neither
// runs nor is undone. What it made is undone only while it is there.
func TestAProbeOfWindowsKeepsWhatWasThereBefore(t *testing.T) {
	t.Parallel()
	w := newWindows(t)
	conn, err := w.dial(t.Context(), w.dialer)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	tpl, ps := template.Load("create/probed.yaml", []byte(`schema: runner/v1
kind: create
name: probed
platform: windows
removal: probed
steps:
  - name: Make the folder
    register: made
    powershell:
      script: $null = New-Item -Path "HKLM:\SOFTWARE\runner\progress\$env:JIT_NAME" -Force
      env: {JIT_NAME: '{{ grant.account }}'}
    probe: Test-Path -LiteralPath "HKLM:\SOFTWARE\runner\progress\{{ grant.account }}"
    undo: Remove-Item -LiteralPath "HKLM:\SOFTWARE\runner\progress\{{ grant.account }}" -Force
  - name: By a program
    win_command: [whoami.exe]
    probe: $true
    undo: throw 'not run'
`), w.reg)
	if len(ps) > 0 {
		t.Fatal(ps)
	}
	run := executor.Run{
		Steps: tpl.Steps, Conn: conn, Modules: w.reg, Scope: "g-1",
		Env: lang.Env{"grant": map[string]any{"id": "g-1", "account": "jit-'$(x)"}, "device": map[string]any{"name": "win1"}},
	}
	do := func(id string, want executor.Status) executor.Run {
		t.Helper()
		r := run
		r.ID = id
		res, err := executor.Do(t.Context(), r)
		if err != nil || res.Steps[0].Status != want || res.Steps[1].Status != executor.OK {
			t.Fatalf("%s: %v, %+v", id, err, res.Steps)
		}
		r.Recorded, r.ID = res.Changes, id+"-undo"
		return r
	}
	first := do("x-1", executor.Changed)
	second := do("x-2", executor.OK)
	for _, c := range []struct {
		r      executor.Run
		undone int
	}{{second, 0}, {first, 1}, {first, 0}} {
		undone, conflicts, err := executor.Revert(t.Context(), c.r)
		if err != nil || len(undone) != c.undone || len(conflicts) > 0 {
			t.Fatalf("%s: undone %v, conflicts %v, %v", c.r.ID, undone, conflicts, err)
		}
	}
	do("x-3", executor.Changed)
}
