package inventory

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"runner/engine/lang"
	"runner/engine/schema/schematest"
)

// What the loader asks for and what the tables describe is the same.
func TestEveryKeyThatIsReadIsDescribed(t *testing.T) {
	t.Parallel()
	type place struct{ table, key string }
	taken := map[place]bool{}
	for _, file := range append(cases(t, "ok"), cases(t, "err")...) {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		l := newLoader()
		l.Taken = func(t *lang.Table, _, key string) { taken[place{t.Name, key}] = true }
		l.file(file, text)
		_, _ = l.finish()
	}
	described := map[place]bool{}
	for _, table := range Tables() {
		for _, k := range table.Keys {
			p := place{table.Name, k.Name}
			described[p] = true
			if !taken[p] && k.Name != "schema" && k.Name != "kind" {
				t.Errorf("%s: %q is described, but the loader never asks for it", p.table, p.key)
			}
			if k.Doc == "" || strings.HasSuffix(k.Doc, ".") || strings.Contains(k.Doc, "\n") {
				t.Errorf("%s.%s: doc %q", table.Name, k.Name, k.Doc)
			}
		}
	}
	for p := range taken {
		if !described[p] {
			t.Errorf("%s: the loader asks for %q, which keys.go does not describe: give it a line there", p.table, p.key)
		}
	}
}

// frames are documents in which the lines of a map stand where EXAMPLE is.
var frames = map[string]string{
	"become":         "schema: runner/v1\nkind: inventory\nname: I\ntransport: ssh\nbecome:\n  EXAMPLE\n",
	"jump":           "schema: runner/v1\nkind: inventory\nname: I\ntransport: ssh\njump:\n  - EXAMPLE\n",
	"winrm":          "schema: runner/v1\nkind: inventory\nname: I\ntransport: winrm\nwinrm:\n  EXAMPLE\n",
	"kerberos":       "schema: runner/v1\nkind: inventory\nname: I\ntransport: winrm\nkerberos:\n  EXAMPLE\n",
	"host_keys":      "schema: runner/v1\nkind: inventory\nname: I\ntransport: ssh\nhost_keys:\n  EXAMPLE\n",
	"timeouts":       "schema: runner/v1\nkind: inventory\nname: I\ntransport: ssh\ntimeouts:\n  EXAMPLE\n",
	"uids":           "schema: runner/v1\nkind: device\nname: d\naddress: 192.0.2.1\nuids:\n  EXAMPLE\n",
	"authentication": "schema: runner/v1\nkind: credential\nname: c\ndevice: web-1\ninventory: Linux-SSH\nauthentication:\n  EXAMPLE\n",
	"jit":            "schema: runner/v1\nkind: credential\nname: c\ndevice: web-1\nauthentication: {credential: web-admin}\njit:\n  EXAMPLE\n",
	"jit_settings":   "schema: runner/v1\nkind: credential\nname: c\ndevice: web-1\nauthentication: {credential: web-admin}\njit_settings:\n  EXAMPLE\n",
	"workflow":       "schema: runner/v1\nkind: credential\nname: c\ndevice: web-1\nauthentication: {credential: web-admin}\nworkflow:\n  EXAMPLE\n",
	"allowed_times":  "schema: runner/v1\nkind: credential\nname: c\ndevice: web-1\nauthentication: {credential: web-admin}\nworkflow:\n  allowed_times:\n    EXAMPLE\n",
	"time_range":     "schema: runner/v1\nkind: credential\nname: c\ndevice: web-1\nauthentication: {credential: web-admin}\nworkflow:\n  allowed_times:\n    timezone: UTC\n    time_ranges:\n      - EXAMPLE\n",
	"approver":       "schema: runner/v1\nkind: credential\nname: c\ndevice: web-1\nauthentication: {credential: web-admin}\nworkflow:\n  approvers:\n    - EXAMPLE\n",
	"principal":      "schema: runner/v1\nkind: credential\nname: c\ndevice: web-1\nauthentication: {credential: web-admin}\nworkflow:\n  approvers:\n    - principal:\n        EXAMPLE\n",
	"secret_from":    "schema: runner/v1\nkind: credential\nname: c\ndevice: web-1\nauthentication:\n  user: u\n  secret_from:\n    EXAMPLE\n",
}

// frame puts an example where it can be loaded; documents of their own get what
// they need.
func frame(table, example string) string {
	if f := frames[table]; f != "" {
		at := strings.Index(f, "EXAMPLE")
		line := f[strings.LastIndex(f[:at], "\n")+1 : at]
		pad := "\n" + strings.Repeat(" ", len(line))
		return strings.ReplaceAll(f, "EXAMPLE", strings.ReplaceAll(example, "\n", pad))
	}
	need := map[string][]string{
		"inventory":  {"name: I", "transport: ssh"},
		"device":     {"name: d", "address: 192.0.2.1"},
		"credential": {"name: c", "device: web-1", "authentication: {credential: web-admin}"},
	}
	text := "schema: runner/v1\nkind: " + table + "\n"
	for _, line := range need[table] {
		key, _, _ := strings.Cut(line, ":")
		if !strings.HasPrefix(example, key+":") {
			text += line + "\n"
		}
	}
	if strings.HasPrefix(example, "schema:") || strings.HasPrefix(example, "kind:") {
		return text
	}
	return text + example + "\n"
}

// around is what the examples refer to.
const around = `schema: runner/v1
kind: inventory
name: Linux-SSH
transport: ssh
methods: [publickey, password, agent]
---
schema: runner/v1
kind: device
name: web-1
address: 192.0.2.1
inventory: Linux-SSH
---
schema: runner/v1
kind: device
name: bastion
address: 192.0.2.2
inventory: Linux-SSH
---
schema: runner/v1
kind: credential
name: web-admin
device: web-1
authentication: {user: runner, secret_from: {file: /etc/runner/key, kind: private_key}}
---
schema: runner/v1
kind: credential
name: bastion-admin
device: bastion
authentication: {user: runner, secret_from: {file: /etc/runner/key, kind: private_key}}
`

func compile(t *testing.T) *schematest.Schema {
	t.Helper()
	text, err := Schema()
	if err != nil {
		t.Fatal(err)
	}
	return schematest.Compile(t, text)
}

func TestExamplesOfKeysAreRight(t *testing.T) {
	t.Parallel()
	s := compile(t)
	for _, table := range Tables() {
		for _, k := range table.Keys {
			text := frame(table.Name, k.Example)
			if !strings.Contains("\n"+k.Example, "\n"+k.Name+":") {
				t.Errorf("%s.%s: the example does not have the key:\n%s", table.Name, k.Name, k.Example)
			}
			if err := s.Check([]byte(text)); err != nil {
				t.Errorf("%s.%s does not fit the schema: %v\n%s", table.Name, k.Name, err, text)
			}
			l := newLoader()
			l.file("around.yaml", []byte(around))
			l.file("example.yaml", []byte(text))
			_, ps := l.finish()
			kerberos := strings.Contains(k.Example, "keytab") || strings.Contains(k.Example, "ccache")
			ps = slices.DeleteFunc(ps, func(p lang.Problem) bool {
				return p.Pos.File != "example.yaml" || kerberos && p.Code == "cannot-authenticate"
			})
			if len(ps) > 0 {
				t.Errorf("%s.%s: %v\n%s", table.Name, k.Name, ps, text)
			}
		}
	}
}

// structural are the codes of mistakes that a schema can see.
var structural = []string{"unknown-key", "missing-key", "wrong-type", "unknown-value", "environment-secret"}

func TestTheSchemaAgreesWithTheLoader(t *testing.T) {
	t.Parallel()
	s := compile(t)
	shipped, err := filepath.Glob(filepath.Join(folder, "*.yaml"))
	if err != nil || len(shipped) < 2 {
		t.Fatal(shipped, err)
	}
	for _, file := range append(cases(t, "ok"), shipped...) {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Check(text); err != nil {
			t.Errorf("%s loads, but the schema refuses it: %v", file, err)
		}
	}
	seen, all := 0, 0
	for _, file := range cases(t, "err") {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		_, ps := Read(file, string(text))
		if !slices.ContainsFunc(ps, func(p lang.Problem) bool { return slices.Contains(structural, p.Code) }) {
			continue
		}
		all++
		if s.Check(text) != nil {
			seen++
		} else {
			t.Logf("only the loader sees what is wrong with %s", file)
		}
	}
	t.Logf("the schema sees %d of %d structural mistakes", seen, all)
	if seen < all*7/10 || seen < 15 {
		t.Errorf("the schema sees %d of %d structural mistakes", seen, all)
	}
}
