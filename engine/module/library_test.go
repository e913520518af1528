package module_test

import (
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"runner/engine/module"
)

// Bodies and definitions are cut apart by lines: each has to be whole.
func TestEveryPieceOfABodyIsWholeShell(t *testing.T) {
	t.Parallel()
	for _, m := range registry(t).All() {
		if m.Sh == "" {
			continue
		}
		for _, text := range append(m.Lib(nil), "m_x() {\n:\n"+m.Sh+"\n}\n") {
			sh := exec.CommandContext(t.Context(), "dash", "-n")
			sh.Stdin = strings.NewReader(text)
			if out, err := sh.CombinedOutput(); err != nil {
				t.Errorf("%s: %v: %s\n%s", m.Name, err, out, text)
			}
		}
	}
}

// What is called is sent, and what is not called is not.
func TestABodyIsSentWithWhatItCalls(t *testing.T) {
	t.Parallel()
	reg := registry(t)
	defined := regexp.MustCompile(`(?m)^([a-z0-9_]+)\(\) \{`)
	called := regexp.MustCompile(`(?m)(?:^|[;&|({] *|then |do |else |if |until |! )((?:lib|user|gm|su|fl|ak|ex|pw|ar|sf|ul|wf|fa|group)_[a-z0-9_]+)(?: |$|;)`)
	names := func(m *module.Module, a module.Args) (ns []string) {
		for _, text := range m.Lib(a) {
			if f := defined.FindStringSubmatch(text); f != nil {
				ns = append(ns, f[1])
			}
		}
		return ns
	}
	for _, m := range reg.All() {
		have := names(m, nil)
		for _, text := range append(m.Lib(nil), m.Sh) {
			for _, c := range called.FindAllStringSubmatch(text, -1) {
				if !slices.Contains(have, c[1]) {
					t.Errorf("%s calls %s, which is not sent", m.Name, c[1])
				}
			}
		}
	}
	for _, c := range []struct {
		state, exists string
		with, without string
	}{
		{"present", "fail", "user_create", "user_remove user_update lib_kill lib_heal"},
		{"present", "update", "user_create user_update", "user_remove lib_rmhome"},
		{"present", "require", "user_update", "user_create user_remove"},
		{"absent", "fail", "user_remove lib_heal lib_kill", "user_create user_update"},
		{"", "", "user_create user_update user_remove", "su_rule"},
		{"present", "", "user_create user_update", "user_remove"},
	} {
		have := names(reg.Lookup("user"), module.Args{"state": c.state, "exists": c.exists})
		for n := range strings.FieldsSeq(c.with) {
			if !slices.Contains(have, n) {
				t.Errorf("user %s %s: %s is not sent", c.state, c.exists, n)
			}
		}
		for n := range strings.FieldsSeq(c.without) {
			if slices.Contains(have, n) {
				t.Errorf("user %s %s: %s is sent", c.state, c.exists, n)
			}
		}
	}
	if a, b := strings.Join(reg.Lookup("facts").Lib(nil), ""), strings.Join(reg.Lookup("user").Lib(nil), ""); len(a) > 1000 || len(b) < 5000 {
		t.Errorf("facts is sent with %d bytes, user with %d", len(a), len(b))
	}
}
