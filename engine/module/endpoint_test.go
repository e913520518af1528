package module_test

import (
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"runner/engine/transport/winrm/winrmtest/pscheck"
)

const endpoint = "../../inventories/windows-jit-endpoint/"

func readText(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

var (
	psComment   = regexp.MustCompile(`(?m)^\s*#.*$`)
	psQuoted    = regexp.MustCompile(`'[^'\n]*'`)
	psCall      = regexp.MustCompile(`(^|[^\w$.\\-])([A-Z][a-z]+-[A-Z][A-Za-z]+|[a-z]+\.exe)([^\n;|)}]*)`)
	psParameter = regexp.MustCompile(`\s-([A-Z][A-Za-z]+)`)
	psSplatted  = regexp.MustCompile(`\$p\.([A-Z]\w+) =|[{;] ?([A-Z]\w+) = `)
)

// calledBy returns the commands that scripts call, with the names of parameters.
func calledBy(scripts ...string) map[string]map[string]bool {
	calls := map[string]map[string]bool{}
	for _, s := range scripts {
		s = psComment.ReplaceAllString(s, "")
		s = strings.ReplaceAll(s, "(Split-Path -Parent $env:PUBLIC)", "$1; Split-Path -Parent $env:PUBLIC; $1") // a call within a call
		s = strings.ReplaceAll(s, `LiteralPath $1; Split-Path -Parent $env:PUBLIC; $1 -Directory -Force`, "LiteralPath $1 -Directory -Force; Split-Path -Parent $env:PUBLIC")
		for _, m := range psCall.FindAllStringSubmatch(psQuoted.ReplaceAllString(s, "''"), -1) {
			if calls[m[2]] == nil {
				calls[m[2]] = map[string]bool{}
			}
			for _, p := range psParameter.FindAllStringSubmatch(m[3], -1) {
				if p[1] != "ErrorAction" { // every command has it
					calls[m[2]][p[1]] = true
				}
			}
		}
	}
	return calls
}

// The endpoint for least privilege allows exactly what the shipped templates call.
func TestTheEndpointAllowsWhatTheBodiesCall(t *testing.T) {
	t.Parallel()
	bodies := []string{readText(t, "../transport/winrm/prelude.ps1"), readText(t, "ps/lib.ps1"), readText(t, "ps/win_surface.ps1")}
	used := map[string]bool{}
	for _, file := range []string{"create/windows-local-user", "delete/windows-local-user", "elevate/windows-group", "elevate/windows-enable"} {
		for _, m := range regexp.MustCompile(`(?m)^    (win_[a-z_]+):`).FindAllStringSubmatch(readText(t, "../../templates/"+file+".yaml"), -1) {
			used[m[1]] = true
		}
	}
	if len(used) < 8 {
		t.Fatalf("the templates use %v", used)
	}
	for name := range used {
		bodies = append(bodies, readText(t, "ps/"+name+".ps1"))
	}
	calls := calledBy(bodies...)
	// What is splatted, and what has no parameter name.
	user := readText(t, "ps/win_user.ps1")
	create, change, _ := strings.Cut(user, "function win_user_update")
	for name, text := range map[string]string{"New-LocalUser": create, "Set-LocalUser": change} {
		for _, m := range psSplatted.FindAllStringSubmatch(text, -1) {
			calls[name][m[1]+m[2]] = true
		}
	}
	calls["New-Object"] = map[string]bool{"TypeName": true, "ArgumentList": true}
	calls["Split-Path"]["Path"] = true
	role := readText(t, endpoint+"RunnerJit/RoleCapabilities/runner-jit.psrc")
	allowed := map[string]map[string]bool{}
	cmdlets, functions, _ := strings.Cut(role, "VisibleFunctions =")
	for line := range strings.SplitSeq(cmdlets, "\n") {
		names := regexp.MustCompile(`@\{ Name = '([^']+)'`).FindAllStringSubmatch(line, -1)
		for i, n := range names {
			if i == 0 {
				allowed[n[1]] = map[string]bool{}
				continue
			}
			allowed[names[0][1]][n[1]] = true
		}
	}
	visible, definitions, _ := strings.Cut(functions, "FunctionDefinitions =")
	for _, m := range regexp.MustCompile(`'([^']+)'`).FindAllStringSubmatch(visible, -1) {
		allowed[m[1]] = nil
		_, def, found := strings.Cut(definitions, "@{ Name = '"+m[1]+"'")
		if !found {
			t.Errorf("%s is visible and not defined", m[1])
			continue
		}
		def, _, _ = strings.Cut(def, "@{ Name =")
		for p := range calls[m[1]] {
			if !strings.Contains(def, "$"+p+",") && !strings.Contains(def, "$"+p+")") {
				t.Errorf("%s of the endpoint has no parameter %s", m[1], p)
			}
		}
	}
	if d := cmp.Diff(slices.Sorted(maps.Keys(calls)), slices.Sorted(maps.Keys(allowed))); d != "" {
		t.Errorf("commands (-called +allowed):\n%s", d)
	}
	for name, ps := range allowed {
		if ps == nil {
			continue
		}
		if d := cmp.Diff(slices.Sorted(maps.Keys(calls[name])), slices.Sorted(maps.Keys(ps))); d != "" {
			t.Errorf("parameters of %s (-used +allowed):\n%s", name, d)
		}
	}
}

func TestTheEndpointIsPowerShell(t *testing.T) {
	t.Parallel()
	sources := map[string]string{}
	for _, f := range []string{"RunnerJit/RoleCapabilities/runner-jit.psrc", "RunnerJit/RunnerJit.psd1", "runner.jit.pssc", "install.ps1"} {
		sources[filepath.Base(f)] = readText(t, endpoint+f)
	}
	pscheck.Check(t, sources)
}
