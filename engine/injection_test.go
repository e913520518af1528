package engine_test

import (
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"runner/engine"
	"runner/engine/lab"
	"runner/engine/template"
)

// hostileValues are values that some language on the way could take for its
// own: sh, YAML, expr, templates, terminals, our frames.
func hostileValues() []string {
	vs := []string{
		"", " ", "a b", "'", `"`, `\`, `'"'"'`, `'; touch /root/pwned; '`, `"; touch /root/pwned; "`, "$(touch /root/pwned)", "`touch /root/pwned`", "${IFS}", "$HOME", "$_r1", "${_r1}",
		"; touch /root/pwned", "| touch /root/pwned", "&& touch /root/pwned", "\ntouch /root/pwned\n", "\n", "a\n", "\na", "a\r\nb\r\n", "\t", "-n", "-e x", "--", "--help", "-rf /", "*", "/*", "~", "~root", "!!", "!x", "#", "# comment", "%s%n", `\n\t\0`, `\c`, "a\\\nb", "$'x'", "EOF", "EOF\ntouch /root/pwned\nEOF",
		"{{ params.other }}", "{{ raw params.other }}", `{{ "a" }}`, "{{", "}}", "{%", "params.other", "true", "false", "null", "~", "0", "0644", "1e3", "no", "- a", "a: b", "[1, 2]", "{a: b}", "!expr 1", "&x", "*x", "|", ">", "---", "...", "%YAML", "\ufeff", "a\u2028b",
		"\x1b[2J\x1b]0;t\a", "\x1e", "\x1eB 1\n", "\b\b", "\x01\x02\x7f", "\xff\xfe", "caf\xe9", "\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80", "\x80\x81\x82", "\x9b2J",
		"touch /root/pwned", "root:x:0:0", "a:b", "../../etc/passwd", "ALL=(ALL) NOPASSWD: ALL",
	}
	var all strings.Builder
	for b := 1; b < 256; b++ {
		all.WriteByte(byte(b))
	}
	const risky = "'\"\\$`\n;|&<>(){}*?[]~#!% \t-ax\x1e\x1b\xff"
	r := rand.New(rand.NewPCG(1, 2))
	for _, n := range []int{100, 4096, 64 << 10} {
		b := make([]byte, n)
		for i := range b {
			b[i] = risky[r.IntN(len(risky))]
		}
		vs = append(vs, string(b))
	}
	return append(vs, all.String(), strings.Repeat("'", 64<<10), strings.Repeat("$(", 1000), strings.Repeat("\\", 4097), strings.Repeat("{{", 1000))
}

const injectionSteps = `
schema: runner/v1
kind: delete
name: injection
platform: linux
become: root
params:
  v: {type: string}
  other: {type: string, default: "touch /root/pwned"}
steps:
  - name: quoted
    register: quoted
    shell: |
      rm -rf /root/in; mkdir -p /root/in
      printf %s "{{ params.v }}" >/root/in/quoted
      printf %s "{{ params.v }}"
  - name: here-document
    shell: |
      cat >/root/in/heredoc <<EOF
      {{ params.v }}
      EOF
  - name: beside other text
    shell: printf %s "<{{ params.v }}>" >/root/in/beside
  - name: a shell below
    shell: sh -c 'printf %s "$1" >/root/in/below' x "{{ params.v }}"
  - name: a program that is piped
    shell: printf %s "{{ params.v | b64enc }}" | cat >/root/in/piped
  - name: a file
    copy: {dest: /root/in/copy, content: "{{ params.v }}", exists: update}
  - name: what a step said
    shell: printf %s "{{ quoted.stdout }}" >/root/in/said
  - name: decided on the device
    register: same
    when: quoted.stdout == params.v
    shell: echo same >/root/in/same
  - name: kept
    register: facts
    set_fact: {kept: "[{{ params.v }}]"}
  - name: of a fact
    shell: printf %s "{{ facts.kept }}" >/root/in/fact
  - name: shown
    debug: {msg: "{{ params.v }}"}
`

const injectionArgv = `
  - name: an argument
    command: {argv: [sh, -c, 'printf %s "$1" >/root/in/argv', x, "{{ params.v }}"]}
  - name: an argument of a script
    script: {text: 'printf %s "$1" >/root/in/args', args: ["{{ params.v }}"]}
`

// A value arrives byte for byte wherever a template puts it, and nothing of it
// is ever executed.
func TestValuesArriveAndAreNeverExecuted(t *testing.T) {
	t.Parallel()
	for _, shell := range []string{"dash", "bash", "busybox", "mksh"} {
		t.Run(shell, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, lab.Config{Name: "inj", Shell: shell}, nil)
			plain, ps := template.Load("delete/injection.yaml", []byte(injectionSteps), w.Modules)
			must(t, ps.Err())
			withArgv, ps := template.Load("delete/injection.yaml", []byte(injectionSteps+injectionArgv), w.Modules)
			must(t, ps.Err())
			for i, v := range hostileValues() {
				tpl := withArgv
				if strings.Contains(v, "\n") { // refused in an argument, with its own message
					tpl = plain
				}
				res, err := w.RunTemplate(t.Context(), engine.AdHoc{Template: tpl, Connection: w.connection(), Params: map[string]any{"v": v}})
				if err != nil {
					t.Errorf("value %d %.60q: %v\n%s", i, v, err, w.logOf(res.Execution.ID))
					continue
				}
				w.arrived(i, v)
			}
		})
	}
}

// arrived compares what lies on the machine.
func (w *world) arrived(i int, v string) {
	w.t.Helper()
	said := strings.TrimSuffix(v, "\n")
	want := map[string]string{
		"quoted": v, "heredoc": v + "\n", "beside": "<" + v + ">", "below": v, "copy": v, "said": said, "fact": "[" + v + "]",
		"piped": base64.StdEncoding.EncodeToString([]byte(v)),
	}
	if said == v {
		want["same"] = "same\n"
	}
	if !strings.Contains(v, "\n") {
		want["argv"], want["args"] = v, v
	}
	got := map[string]string{}
	out := w.sh(`cd /root/in && for f in *; do echo "$f $(od -An -v -tx1 "$f" | tr -d ' \n')"; done; ls -d /root/pwned /pwned /tmp/pwned 2>/dev/null; true`)
	for line := range strings.Lines(out) {
		name, hexed, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		got[name] = hexed
	}
	for name, text := range want {
		if got[name] != fmt.Sprintf("%x", text) {
			w.t.Errorf("value %d %.60q: %s holds %.200s, not %.200x", i, v, name, got[name], text)
		}
		delete(got, name)
	}
	if len(got) > 0 {
		w.t.Errorf("value %d %.60q: also there: %.300q", i, v, got)
	}
}
