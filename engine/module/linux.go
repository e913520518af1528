package module

import (
	"fmt"
	"strings"
)

// Linux returns the registry of the modules that templates for Linux may call.
func Linux() (*Registry, error) {
	ms := []*Module{
		facts(), user(), userInfo(), group(), groupMember(), password(), expiry(), enable(), sudoers(), authorizedKey(),
		killSessions(), userLeftovers(), file(), copyContent(), archive(), command(), shell(), script(), waitFor(), surface(), marks(),
		assert(), setFact(), debug(), fail(), revert(),
	}
	lib := library{}
	for name := range strings.FieldsSeq("lib lib_remove lib_residue lib_file lib_run") {
		rest, err := lib.read("sh/" + name + ".sh")
		if err != nil {
			return nil, err
		}
		if rest != "" {
			return nil, fmt.Errorf("module: %s does more than define: %s", name, rest)
		}
	}
	for _, m := range ms {
		if m.Control != nil || controllerOnly[m.Name] {
			continue
		}
		m.Platform, m.library = "linux", lib
		var err error
		if m.Sh, err = lib.read("sh/" + m.Name + ".sh"); err != nil {
			return nil, err
		}
	}
	for _, m := range ms {
		m.calls = lib.naming(m.Sh)
	}
	for _, d := range lib {
		d.calls = lib.naming(d.text)
	}
	return NewRegistry(ms...)
}

// controllerOnly names the modules that the executor itself carries out.
var controllerOnly = map[string]bool{"assert": true, "set_fact": true, "revert": true}
