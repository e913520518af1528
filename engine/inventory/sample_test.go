package inventory

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const folder = "../../inventories"

func TestSampleInventoriesAreRight(t *testing.T) {
	t.Parallel()
	set, ps := Load(folder)
	if len(ps) > 0 {
		t.Fatal(ps)
	}
	conn, err := set.Resolve("db-admin")
	if err != nil {
		t.Fatal(err)
	}
	if len(conn.Jump) != 1 || conn.Jump[0].Address != "bastion.example.com" || conn.Jump[0].Port != 2222 || conn.Jump[0].User != "hop" {
		t.Errorf("db-1 is reached through %+v, want hop@bastion.example.com:2222", conn.Jump)
	}
	if conn, err = set.Resolve("web-admin"); err != nil || len(conn.Jump) != 0 {
		t.Errorf("web-1 is reached through %v (%v), want directly", conn, err)
	}
	for _, name := range []string{"Linux-SSH", "Linux-SSH-Jump"} {
		if set.Inventories[name] == nil {
			t.Errorf("no inventory %s", name)
		}
	}
	if len(set.Notices) > 0 {
		t.Errorf("notices: %v", set.Notices)
	}
}

func readme(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(folder, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestExamplesOfTheReadmeAreRight(t *testing.T) {
	t.Parallel()
	blocks := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(readme(t), -1)
	if len(blocks) < 5 {
		t.Fatalf("found %d examples", len(blocks))
	}
	l := newLoader()
	for _, b := range blocks {
		l.file("README.md", []byte(b[1]))
	}
	if _, ps := l.finish(); len(ps) > 0 {
		t.Fatal(ps)
	}
}

// Every map of every document, each with a key that does not exist: the
// problems tell which keys do.
const strange = `
schema: runner/v1
kind: inventory
name: I
transport: ssh
zzzzzzzz: 1
become: {zzzzzzzz: 1}
host_keys: {zzzzzzzz: 1}
timeouts: {zzzzzzzz: 1}
jump: [{device: d, zzzzzzzz: 1}]
---
schema: runner/v1
kind: device
name: d
address: 192.0.2.1
zzzzzzzz: 1
uids: {zzzzzzzz: 1}
---
schema: runner/v1
kind: credential
name: c
device: d
inventory: I
zzzzzzzz: 1
authentication: {user: u, zzzzzzzz: 1, secret_from: {file: /f, zzzzzzzz: 1}}
jit: {create: x, zzzzzzzz: 1}
`

func TestEveryKeyIsInTheReadme(t *testing.T) {
	t.Parallel()
	text := readme(t)
	_, ps := loadText("x.yaml", strange)
	maps := 0
	for _, p := range ps {
		_, keys, ok := strings.Cut(p.Message, "; it may have ")
		if !ok {
			continue
		}
		maps++
		prefix := ""
		for _, word := range []string{"become", "host_keys", "timeouts", "uids", "jit", "authentication"} {
			if strings.Contains(p.Message, " in "+word+";") {
				prefix = word + "."
			}
		}
		if strings.Contains(p.Message, "jump host") {
			prefix = "jump[]."
		}
		for key := range strings.FieldsSeq(strings.NewReplacer(",", " ", " or ", " ").Replace(keys)) {
			if key != "schema" && key != "kind" && !strings.Contains(text, "| `"+prefix+key+"` |") && !strings.Contains(text, "| `"+prefix+key+".") {
				t.Errorf("README.md has no line for %s%s", prefix, key)
			}
		}
	}
	if maps != 11 {
		t.Errorf("looked at %d maps, want 11:\n%v", maps, ps)
	}
}
