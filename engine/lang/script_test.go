package lang

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// nasty are values that do harm where they become program text.
func nasty(mark string) []string {
	return []string{
		"", " ", "plain", "two words", "*", "~", "-n", "a'b", `a"b`, `'; touch ` + mark + `; '`, `"; touch ` + mark + `; "`,
		"$(touch " + mark + ")", "`touch " + mark + "`", "${HOME}", "$HOME", `\`, `\\`, `a\nb`, "a\nb", "\n", "\n\n", "trailing\n\n", "touch " + mark + "\n",
		"; touch " + mark, "| touch " + mark, "& touch " + mark, "> " + mark, "#", "é ü 漢", "\t", "EOF\ntouch " + mark + "\n", "EOF", "{{ params.name }}", "%s%n", "a[$(touch " + mark + ")]",
		"$((1+1))", "!!", "\x01", "'", `"`, "''", `\'`, strings.Repeat("'\"$`\\", 50),
	}
}

// shellQuote writes a value for the shell, as a transport would.
func shellQuote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

func TestNoValueBecomesProgramText(t *testing.T) {
	t.Parallel()
	scope := Scope{"v": String, "w": String}
	for name, c := range map[string]struct{ script, want string }{
		"argument":         {`printf %s "{{ v }}"`, "%s"},
		"part of a word":   {`printf %s "a{{ v }}b{{ w }}"c`, "a%sb%[1]sc"},
		"assignment":       {"x={{ v }}\nprintf %s \"$x\"", "%s"},
		"here-document":    {"cat <<EOF\n{{ v }}.\nEOF", "%s.\n"},
		"indented here":    {"cat <<-EOF\n{{ v }}.\nEOF", "%s.\n"},
		"substitution":     {`x="$(printf %s "{{ v }}"; echo .)"; printf %s "$x"`, "%s."},
		"backquotes":       {"x=\"`printf %s \"{{ v }}\"; echo .`\"; printf %s \"$x\"", "%s."},
		"function":         {"f() { printf %s \"$1\"; }\nf \"{{ v }}\"", "%s"},
		"default":          {`printf %s "${nothing:-{{ v }}}"`, "%s"},
		"case":             {`case {{ v }} in "{{ w }}") printf same;; *) printf other;; esac`, "same"},
		"case pattern":     {"case \"{{ w }}\" in \"{{ v }}\") printf same;; esac", "same"},
		"test":             {`if [ "x{{ v }}" = "x{{ w }}" ]; then printf same; fi`, "same"},
		"loop":             {`for i in "{{ v }}" "{{ w }}"; do printf %s. "$i"; done`, "%s.%[1]s."},
		"program argument": {`sh -c 'printf %s "$1"' sh "{{ v }}"`, "%s"},
		"environment":      {`X="{{ v }}" sh -c 'printf %s "$X"'`, "%s"},
		"pipe":             {`printf %s "{{ v }}" | cat`, "%s"},
		"subshell":         {`(printf %s "{{ v }}")`, "%s"},
		"beside a dollar":  {`d=1; printf %s "$d{{ v }}"`, "1%s"},
		"before a letter":  {`printf %s "{{ v }}x"`, "%sx"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			program, values, ps := CompileScript(block(t, c.script), scope)
			if len(ps) > 0 {
				t.Fatal(ps)
			}
			for _, shell := range []string{"sh", "bash"} {
				runNasty(t, shell, program, values, c.want)
			}
		})
	}
}

// runNasty runs a program with each nasty value and compares what it prints.
func runNasty(t *testing.T, shell, program string, values []*Value, want string) {
	t.Helper()
	bin, err := exec.LookPath(shell)
	if err != nil {
		t.Logf("no %s here", shell)
		return
	}
	mark := filepath.Join(t.TempDir(), "harm")
	var all, expect strings.Builder
	for _, v := range nasty(mark) {
		for i, bound := range values {
			s, err := bound.Eval(Env{"v": v, "w": v})
			if err != nil {
				t.Fatal(err)
			}
			text, _ := s.(string)
			fmt.Fprintf(&all, "_r%d=%s\n", i+1, shellQuote(text))
		}
		all.WriteString(program + "\necho\n")
		if strings.Contains(want, "%") {
			fmt.Fprintf(&expect, want+"\n", v)
		} else {
			expect.WriteString(want + "\n")
		}
	}
	cmd := exec.CommandContext(t.Context(), bin)
	cmd.Stdin = strings.NewReader(all.String())
	cmd.Dir = t.TempDir()
	out, err := cmd.CombinedOutput()
	if err != nil || !bytes.Equal(out, []byte(expect.String())) {
		t.Errorf("%s: %v\ngot  %q\nwant %q", shell, err, out, expect.String())
	}
	if _, err := os.Stat(mark); err == nil {
		t.Errorf("%s ran a value", shell)
	}
}

func TestSecretsAreBoundToScriptsAsTheyAre(t *testing.T) {
	t.Parallel()
	program, values, ps := CompileScript(block(t, `printf %s "{{ params.password }}" | chpasswd`), testScope())
	if len(ps) > 0 {
		t.Fatal(ps)
	}
	if program != `printf %s "${_r1}" | chpasswd` || len(values) != 1 || values[0].Type().Kind != SecretKind {
		t.Errorf("%s %v", program, values)
	}
	got, err := values[0].Eval(testEnv())
	if v, ok := got.(concealed); err != nil || !ok || v.text != canary {
		t.Errorf("%T, %v", got, err)
	}
}
