package ssh

import (
	"fmt"
	"strings"
	"testing"

	"runner/engine/lab"
	"runner/engine/transport"
)

// author is the body of a step that evaluates an author's script, as the shell
// module does.
const author = `( eval "$a_cmd" )`

// scripts are scripts that could confuse the frames, and what they come to.
var scripts = []struct {
	name, cmd, out, err string
	rc                  int
}{
	{"nothing", `:`, "", "", 0},
	{"no line end", `printf 'a\nb'`, "a\nb", "", 0},
	{"both streams", `echo one; echo two >&2; echo three`, "one\nthree\n", "two\n", 0},
	{"only line ends", `echo; echo`, "\n\n", "", 0},
	{"exit in the middle", `echo before; exit 3; echo after`, "before\n", "", 3},
	{"a failing command", `false`, "", "", 1},
	{"set -e", `set -e; echo a; false; echo b`, "a\n", "", 1},
	{"a forged end", `printf '\036000000000000000000000000 E 5 0 false false 1\n\036E 5 0\nZ\n'`, "\x1e000000000000000000000000 E 5 0 false false 1\n\x1eE 5 0\nZ\n", "", 0},
	{"a forged marker on the other stream", `printf '\036 Z\n' >&2`, "", "\x1e Z\n", 0},
	{"binary", `echo AAECAx4KHhv/gICBwwAeCg== | base64 -d`, "\x00\x01\x02\x03\x1e\n\x1e\x1b\xff\x80\x80\x81\xc3\x00\x1e\n", "", 0},
	{"terminal control", `printf '\033]0;t\007\033[2J\r\010\n'`, "\x1b]0;t\a\x1b[2J\r\b\n", "", 0},
	{"standard input is empty", `cat; read -r x || echo end`, "end\n", "", 0},
	{"its output is closed", `exec >&- 2>&-; :`, "", "", 0},
	{"another folder, IFS and umask", `cd /tmp; IFS=x; umask 0; set -f; echo hi`, "hi\n", "", 0},
	{"what looks like our program", "echo '__end'; __stop=1; __want=x; __n=y; M=z", "__end\n", "", 0},
	{"many lines", `i=0; while [ $i -lt 20000 ]; do echo 0123456789; i=$((i+1)); done`, strings.Repeat("0123456789\n", 20000), "", 0},
}

// frame runs the corpus in one batch and compares what arrived.
func frame(t *testing.T, c transport.Conn) {
	t.Helper()
	b := transport.Batch{}
	for i, f := range scripts {
		b.Steps = append(b.Steps, transport.Step{
			N: i, Name: f.name, Body: transport.Body{Name: "author", Text: author}, Continue: true,
			Args: []transport.Arg{arg("cmd", f.cmd)},
		})
	}
	broken := transport.Step{N: 100, Name: "broken", Body: transport.Body{Name: "author", Text: author}, Continue: true, Args: []transport.Arg{arg("cmd", "if true; echo 'no end")}}
	after := sh(101, `_put "-n after\\"; _out k "$a_v"`, arg("v", "one\n\x1e two"))
	b.Steps = append(b.Steps, broken, after)
	var r record
	if err := c.Run(t.Context(), b, r.sink); err != nil {
		t.Fatal(err)
	}
	for i, f := range scripts {
		if got := r.output(i, transport.Stdout); got != f.out {
			t.Errorf("%s: stdout is %.200q", f.name, got)
		}
		if got := r.output(i, transport.Stderr); got != f.err {
			t.Errorf("%s: stderr is %.200q", f.name, got)
		}
		if want := fmt.Sprintf("B%d; E%d rc=%d", i, i, f.rc); !strings.Contains(r.trace(), want) {
			t.Errorf("%s: want %s in %s", f.name, want, r.trace())
		}
	}
	if strings.Contains(r.trace(), "E100 rc=0") {
		t.Errorf("a script that cannot be parsed passed: %s", r.trace())
	}
	if got := r.output(101, transport.Stdout); got != `-n after\` {
		t.Errorf("after the broken script: %q", got)
	}
	if got, _ := r.fact(101, "k"); got != "one\n\x1e two" {
		t.Errorf("fact: %q", got)
	}
}

// What a step writes arrives as it is, whatever shell /bin/sh is.
func TestFramesInEveryShell(t *testing.T) {
	t.Parallel()
	all := shells(t)
	all["yash"] = yash(t)
	for name, interpreter := range all {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			frame(t, localConn(t, interpreter, "/bin/sh", "-c"))
		})
	}
}

// The same on real machines, whatever the login shell is, with login scripts
// that make noise.
func TestFramesInEveryLoginShell(t *testing.T) {
	t.Parallel()
	m := labMachine(t, lab.Config{Name: "logins"})
	_, err := m.Shell(t.Context(), `for h in /home/sh*; do
for f in .profile .bashrc .zshenv .zshrc .kshrc .yashrc; do printf 'echo "noise \036 from %s"\necho noise >&2\n' "$f" >>"$h/$f"; done
printf 'echo noise\n' >>"$h/.cshrc"; mkdir -p "$h/.config/fish"; printf 'echo noise\n' >"$h/.config/fish/config.fish"; done`)
	if err != nil {
		t.Fatal(err)
	}
	d := dialer(t)
	for _, login := range []string{"dash", "bash", "ksh93", "mksh", "zsh", "yash", "posh", "fish", "tcsh", "ash"} {
		t.Run(login, func(t *testing.T) {
			t.Parallel()
			frame(t, connTo(t, d, sudoConfig(t, m, "sh"+login)))
		})
	}
}

// yash keeps text as characters. A byte that is none is not dropped in silence:
// the program is not run at all.
func TestYashRefusesWhatItCannotHold(t *testing.T) {
	t.Parallel()
	c := localConn(t, yash(t), "/bin/sh", "-c")
	var r record
	err := c.Run(t.Context(), transport.Batch{Steps: []transport.Step{sh(1, "echo ran"), sh(2, `echo "$a_v"`, arg("v", "caf\xe9"))}}, r.sink)
	if code(err) != "exec.cut" || !transport.SafeToRetry(err) || strings.Contains(r.trace(), "B") {
		t.Fatalf("error %v, events %s", err, r.trace())
	}
}
