package module

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestWatchIsNeverAhead(t *testing.T) {
	t.Parallel()
	read := time.Now()
	for _, c := range []struct {
		shows string
		in    time.Duration
		want  string
	}{
		{"t1000", 3 * time.Second, "t1030"},
		{"t1000", 3099 * time.Millisecond, "t1030"},
		{"s1000", 3999 * time.Millisecond, "s1003"},
		{"t1000", -time.Millisecond, "t0"}, // it has passed, whatever the watch shows
		{"t638000000000", 0, "t638000000000"},
	} {
		got, err := Watch{Shows: c.shows, Read: read}.At(read.Add(c.in))
		if err != nil || got != c.want {
			t.Errorf("%s after %s: %q, %v; want %s", c.shows, c.in, got, err, c.want)
		}
	}
	for _, shows := range []string{"", "t", "x100", "t-5", "t1e9", "t99999999999999999999999"} {
		if at, err := (Watch{Shows: shows, Read: read}).At(read); err == nil {
			t.Errorf("%q: %s", shows, at)
		}
	}
}

// The body tells the time of the device in each shell, and refuses at it.
func TestDeadlineBody(t *testing.T) {
	t.Parallel()
	for _, shell := range [][]string{{"dash"}, {"bash"}, {"bash", "--posix"}, {"busybox", "sh"}, {"ksh93"}, {"mksh"}, {"posh"}, {"zsh", "--emulate", "sh"}} {
		t.Run(shell[len(shell)-1], func(t *testing.T) {
			t.Parallel()
			run := func(before string) (shows string, late bool) {
				program := "_out() { echo \"$1=$2\"; }\nbody() {\n" + deadlineSh + "\n}\nbody; echo rc=$?\n"
				cmd := exec.CommandContext(t.Context(), shell[0], append(slices.Clone(shell[1:]), "-c", program)...)
				cmd.Env = append(os.Environ(), "a_before="+before)
				out, err := cmd.CombinedOutput()
				if err != nil {
					t.Fatalf("%v: %s", err, out)
				}
				lines := strings.Split(string(out), "\n")
				return strings.TrimPrefix(lines[0], "now="), strings.Contains(string(out), "rc=1") && strings.Contains(string(out), "late=true")
			}
			shows, late := run("")
			if late {
				t.Fatal("late without a moment")
			}
			w := Watch{Shows: shows, Read: time.Now()}
			for in, want := range map[time.Duration]bool{time.Hour: false, -time.Second: true, 0: true} {
				at, err := w.At(w.Read.Add(in))
				if err != nil {
					t.Fatal(err)
				}
				if _, late := run(at); late != want {
					t.Errorf("%s, asked for %s: late is %t", shows, at, late)
				}
			}
			if _, late := run("x" + shows[1:] + "000"); !late {
				t.Error("a moment of another watch is no moment")
			}
		})
	}
}
