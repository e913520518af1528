package inventory

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"runner/engine/lang"
)

const plainSet = `
schema: runner/v1
kind: inventory
name: Linux-SSH
transport: ssh
---
schema: runner/v1
kind: device
name: web-1
address: web-1.example.com
inventory: Linux-SSH
---
schema: runner/v1
kind: credential
name: web-admin
device: web-1
authentication: {user: runner, secret_from: {file: /etc/runner/key, kind: private_key}}
jit: {create: linux-user, delete: linux-group, elevate: linux-gruop, revert: linux-group}
`

func mustLoad(t *testing.T, text string) *Set {
	t.Helper()
	set, ps := Read("inventories/x.yaml", text)
	if len(ps) > 0 {
		t.Fatal(ps)
	}
	return set
}

// messages returns what is said, without the excerpts.
func messages(ps lang.Problems) []string {
	var out []string
	for _, p := range ps {
		out = append(out, p.String())
	}
	return out
}

func TestWhatIsNotWrittenHasItsDefault(t *testing.T) {
	t.Parallel()
	set := mustLoad(t, plainSet)
	c := set.Credentials["web-admin"]
	if c.AccountText != "jit-{{ id }}" || c.Password != "generated" || c.UseKerberos || len(c.Requesters) != 0 {
		t.Errorf("credential: %+v", c)
	}
	name, err := c.Account.Eval(lang.Env{"id": "a2b3c4d5e6"})
	if err != nil || name != "jit-a2b3c4d5e6" {
		t.Errorf("account is %v (%v), want jit-a2b3c4d5e6", name, err)
	}
	j := c.JIT
	if !j.Enabled || j.Type != "create_delete" || j.Duration != time.Hour || j.MaxDuration != 8*time.Hour || j.Margin != 15*time.Minute {
		t.Errorf("jit: %+v", j)
	}
	if d := set.Devices["web-1"]; d.UIDs != (UIDRange{70000, 99999}) || d.Platform != "linux" {
		t.Errorf("device: %+v", d)
	}
	conn, err := set.Resolve("web-admin")
	if err != nil || conn.Port != 22 || conn.HostKeyPolicy != "strict" || conn.Become.Method != "sudo" {
		t.Errorf("connection: %+v (%v)", conn, err)
	}
}

func TestACredentialWithoutJITGivesNothing(t *testing.T) {
	t.Parallel()
	text, _, _ := strings.Cut(plainSet, "jit:")
	if c := mustLoad(t, text).Credentials["web-admin"]; c.JIT.Enabled {
		t.Errorf("jit is on: %+v", c.JIT)
	}
}

func TestTemplatesThatDoNotExistAreReported(t *testing.T) {
	t.Parallel()
	has := func(kind, name string) bool {
		return slices.Contains([]string{"create/linux-user", "delete/linux-user", "elevate/linux-group"}, kind+"/"+name)
	}
	want := []string{
		`inventories/x.yaml:18:35: there is no usable delete template "linux-group" for credential web-admin; there is one of kind elevate [unknown-template]`,
		`inventories/x.yaml:18:57: there is no usable elevate template "linux-gruop" for credential web-admin [unknown-template]`,
	}
	if got := messages(mustLoad(t, plainSet).CheckTemplates(has)); !slices.Equal(got, want) {
		t.Errorf("got %q\nwant %q", got, want)
	}
}

func TestTemplatesForAnotherPlatformAreReported(t *testing.T) {
	t.Parallel()
	platform := func(kind, name string) string {
		return map[string]string{"create/linux-user": "windows", "delete/linux-group": "linux"}[kind+"/"+name]
	}
	want := []string{`inventories/x.yaml:18:15: template create/linux-user is for windows, and device web-1 of credential web-admin is linux [wrong-platform]`}
	if got := messages(mustLoad(t, plainSet).CheckPlatforms(platform)); !slices.Equal(got, want) {
		t.Errorf("got %q\nwant %q", got, want)
	}
}

func TestAnUnknownCredentialSaysTheNearest(t *testing.T) {
	t.Parallel()
	set := mustLoad(t, plainSet)
	for name, want := range map[string]string{
		"web-admim": `there is no credential "web-admim"; did you mean "web-admin"?`,
		"oracle":    `there is no credential "oracle"; there is web-admin`,
	} {
		if _, err := set.Resolve(name); err == nil || err.Error() != want {
			t.Errorf("Resolve(%q): %v, want %s", name, err, want)
		}
	}
	if _, err := (&Set{}).Resolve("x"); err == nil || !strings.Contains(err.Error(), "none is defined yet") {
		t.Errorf("of an empty set: %v", err)
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestAFolderIsReadAsOne(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	docs := strings.SplitAfter(plainSet, "---\n")
	write(t, filepath.Join(dir, "z.yaml"), docs[0])
	write(t, filepath.Join(dir, "a.yml"), docs[1])
	write(t, filepath.Join(dir, "m.yaml"), docs[2])
	write(t, filepath.Join(dir, "README.md"), "kind: nothing of the sort")
	write(t, filepath.Join(dir, ".hidden.yaml"), "kind: nothing of the sort")
	write(t, filepath.Join(dir, "old", "web.yaml"), "kind: nothing of the sort")
	set, ps := Load(dir)
	if len(ps) > 0 {
		t.Fatal(ps)
	}
	if len(set.Credentials) != 1 || len(set.Devices) != 1 || len(set.Inventories) != 1 {
		t.Errorf("got %+v", set)
	}
	write(t, filepath.Join(dir, "zz.yaml"), docs[1])
	set, ps = Load(dir)
	want := filepath.Join(dir, "zz.yaml") + `:3:7: device "web-1" is defined twice; the first is at ` + filepath.Join(dir, "a.yml") + ":3:7 [duplicate]"
	if set != nil || len(ps) != 1 || ps[0].String() != want {
		t.Errorf("got %v\nwant %s", messages(ps), want)
	}
}

func TestAFolderThatIsNotThereIsAProblem(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "inventories")
	set, ps := Load(dir)
	if set != nil || len(ps) != 1 || !strings.Contains(ps[0].String(), "cannot be read: no such file or directory") {
		t.Errorf("got %v, %v", set, messages(ps))
	}
}

func TestAResolvedConnectionIsNotTiedToTheSet(t *testing.T) {
	t.Parallel()
	set := mustLoad(t, plainSet)
	conn, err := set.Resolve("web-admin")
	if err != nil {
		t.Fatal(err)
	}
	set.Devices["web-1"].Address = "elsewhere"
	set.Inventories["Linux-SSH"].Methods[0] = "password"
	set.Credentials["web-admin"].Auth.Secret.File = "/elsewhere"
	if conn.Address != "web-1.example.com" || conn.Methods[0] != "publickey" || conn.Secret.File != "/etc/runner/key" {
		t.Errorf("an edit reached a pinned connection: %+v, %+v", conn, conn.Secret)
	}
}

func TestFixedParamsThatNoTemplateTakesAreReported(t *testing.T) {
	t.Parallel()
	set := mustLoad(t, plainSet+"params: {shel: /bin/sh, quota: 11, groups: [adm], other: canary-hunter2}\n")
	params := func(kind, name string) map[string]func(*lang.Value) string {
		if kind != "create" || name != "linux-user" {
			return nil
		}
		fine := func(*lang.Value) string { return "" }
		wrong := func(*lang.Value) string { return "is wrong" }
		return map[string]func(*lang.Value) string{"shell": fine, "groups": fine, "quota": wrong, "other": wrong}
	}
	ps := set.CheckParams(params)
	want := []string{
		`inventories/x.yaml:19:10: no template of this credential has a param "shel"; did you mean "shell"? [unknown-param]`,
		`inventories/x.yaml:19:25: param "quota" is wrong [wrong-value]`,
		`inventories/x.yaml:19:51: param "other" is wrong [wrong-value]`,
	}
	if got := messages(ps); !slices.Equal(got, want) {
		t.Errorf("got %q\nwant %q", got, want)
	}
	if strings.Contains(ps.Error(), "hunter2") {
		t.Error("a value that may be a secret is shown")
	}
}
