package module

import (
	"embed"
	"fmt"
	"strings"
)

//go:embed sh/*.sh
var bodies embed.FS

// Linux returns the registry of the modules that templates for Linux may call.
func Linux() (*Registry, error) {
	ms := []*Module{
		facts(), user(), userInfo(), group(), groupMember(), password(), expiry(), sudoers(), authorizedKey(),
		killSessions(), userLeftovers(), file(), copyContent(), archive(), command(), shell(), script(), waitFor(), surface(),
		assert(), setFact(), debug(), fail(), revert(),
	}
	lib, err := library()
	if err != nil {
		return nil, err
	}
	for _, m := range ms {
		if m.Control != nil || controllerOnly[m.Name] {
			continue
		}
		m.Platform = "linux"
		if err := m.load(lib); err != nil {
			return nil, err
		}
	}
	return NewRegistry(ms...)
}

// controllerOnly names the modules that the executor itself carries out.
var controllerOnly = map[string]bool{"assert": true, "set_fact": true, "revert": true}

// load reads the body of m; lib is the text of the shared functions.
func (m *Module) load(lib string) error {
	text, err := body(m.Name)
	if err != nil {
		return err
	}
	m.Sh = text
	if m.Lib != "" {
		m.Lib = lib
	}
	return nil
}

// library reads the shared functions.
func library() (string, error) {
	var lib strings.Builder
	for name := range strings.FieldsSeq(libs) {
		text, err := body(name)
		if err != nil {
			return "", err
		}
		lib.WriteString(text)
	}
	return lib.String(), nil
}

// body reads a file of sh without its comments and indentation, which would
// only be sent. Bodies have no text that continues over lines and cares.
func body(name string) (string, error) {
	b, err := bodies.ReadFile("sh/" + name + ".sh")
	if err != nil {
		return "", fmt.Errorf("module: the body of %s: %w", name, err)
	}
	var out strings.Builder
	for line := range strings.Lines(string(b)) {
		t := strings.TrimLeft(line, " \t")
		if t == "" || t == "\n" || strings.HasPrefix(t, "#") {
			continue
		}
		out.WriteString(t)
	}
	return out.String(), nil
}

// libs names the shared functions of all bodies. There is one text for all, so
// that a connection sends it once.
const libs = "lib lib_remove lib_residue lib_file lib_run"
