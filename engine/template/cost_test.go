package template_test

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml/parser"

	"runner/engine/module"
	"runner/engine/template"
)

// BenchmarkCheck compares a check with what the YAML library needs to parse the
// same file, in turns, so that both meet the same machine. The issue allows 4.
func BenchmarkCheck(b *testing.B) {
	reg, err := module.All()
	if err != nil {
		b.Fatal(err)
	}
	for _, file := range []string{"create/linux-user.yaml", "delete/linux-user.yaml", "create/windows-local-user.yaml"} {
		b.Run(file, func(b *testing.B) {
			text, err := os.ReadFile("../../templates/" + file)
			if err != nil {
				b.Fatal(err)
			}
			var check, bare []time.Duration
			for b.Loop() {
				start := time.Now()
				if _, ps := template.Load(file, text, reg); len(ps) > 0 {
					b.Fatal(ps)
				}
				between := time.Now()
				if _, err := parser.ParseBytes(text, 0); err != nil {
					b.Fatal(err)
				}
				check, bare = append(check, between.Sub(start)), append(bare, time.Since(between))
			}
			slices.Sort(check)
			slices.Sort(bare)
			b.ReportMetric(float64(check[len(check)/2])/float64(bare[len(bare)/2]), "x-bare-parse")
			b.ReportMetric(float64(check[0])/float64(bare[0]), "x-bare-parse-at-best")
		})
	}
}

// longTemplate has n steps of several kinds.
func longTemplate(n int) []byte {
	var b strings.Builder
	b.WriteString("schema: runner/v1\nkind: create\nname: long\nplatform: linux\nremoval: x\nparams:\n  word: {type: string, default: x}\nsteps:\n")
	for i := range n {
		switch i % 3 {
		case 0:
			fmt.Fprintf(&b, "  - name: Look %d\n    register: r%d\n    when: params.word != \"\" and grant.uid > %d\n    user_info: '{{ params.word }}'\n", i, i, i)
		case 1:
			fmt.Fprintf(&b, "  - name: Run %d\n    shell: |\n      if test -e \"/srv/{{ params.word }}\"; then echo %d; fi\n    changed_when: false\n", i, i)
		default:
			fmt.Fprintf(&b, "  - name: Make %d\n    when: r%d.exists\n    file: {path: '/srv/{{ params.word }}/%d'}\n", i, i-2, i)
		}
	}
	return []byte(b.String())
}

// A template ten times as long may take ten times the work, not a hundred.
func TestACheckGrowsWithTheSteps(t *testing.T) { //nolint:paralleltest // allocations are counted for the whole process
	reg, err := module.All()
	if err != nil {
		t.Fatal(err)
	}
	perStep := func(n int) (allocs, bytes float64) {
		text := longTemplate(n)
		load := func() {
			if _, ps := template.Load("long.yaml", text, reg); len(ps) > 0 {
				t.Fatal(ps)
			}
		}
		allocs = testing.AllocsPerRun(1, load)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		load()
		runtime.ReadMemStats(&after)
		return allocs / float64(n), float64(after.TotalAlloc-before.TotalAlloc) / float64(n)
	}
	smallAllocs, smallBytes := perStep(50)
	for _, n := range []int{500, 2000} { // a file has at most 20,000 values
		allocs, bytes := perStep(n)
		t.Logf("%d steps: %.0f allocations and %.0f bytes each; of 50: %.0f and %.0f", n, allocs, bytes, smallAllocs, smallBytes)
		if allocs > 1.5*smallAllocs || bytes > 1.5*smallBytes {
			t.Errorf("%d steps: %.0f allocations and %.0f bytes each, and of 50 they are %.0f and %.0f", n, allocs, bytes, smallAllocs, smallBytes)
		}
	}
}
