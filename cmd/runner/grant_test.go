package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"runner/engine/lab"
	"runner/engine/lab/labtest"
	"runner/engine/secret"
	"runner/engine/transport"
	"runner/engine/transport/ssh"
)

// site is a workspace and a machine that it reaches.
type site struct {
	dir string
	box *lab.Machine
}

// newSite makes both. The credentials are admin, for ana, bo and operators,
// and those of the templates that it is given by name.
func newSite(t *testing.T, creates map[string]string) *site {
	t.Helper()
	s := &site{dir: filepath.Join(t.TempDir(), "w"), box: labtest.StartT(t, lab.Config{Name: "web", Dir: t.TempDir()})}
	if _, text, code := s.as(t, "root", "init", s.dir); code != 0 {
		t.Fatal(text)
	}
	docs := labYAML(s.box)
	docs = strings.Replace(docs, "\njit:\n", "\nrequesters: [ana, bo, root]\njit:\n", 1)
	for name, text := range creates {
		docs += fmt.Sprintf("---\nschema: runner/v1\nkind: credential\nname: %s\ndevice: web\nauthentication: {credential: web-admin}\nrequesters: [ana]\njit: {create: %s, delete: linux-user}\n", name, name)
		s.write(t, "templates/create/"+name+".yaml", text)
	}
	s.write(t, "inventories/web.yaml", docs)
	return s
}

func (s *site) write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(s.dir, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// as runs the program as a user of this host.
func (s *site) as(t *testing.T, caller string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	return s.until(t, t.Context(), caller, false, args...)
}

// until is as with a context that stands for signals, and on a terminal or not.
func (s *site) until(t *testing.T, ctx context.Context, caller string, tty bool, args ...string) (stdout, stderr string, code int) { //nolint:revive // t is first in helpers
	t.Helper()
	p, out := tempProcess(t)
	p.caller = func() (string, error) { return caller, nil }
	p.outTTY = tty
	if args[0] != "init" {
		args = append([]string{"--workspace", s.dir}, args...)
	}
	code = runUntil(ctx, args, p)
	return out.out.String(), out.err.String(), code
}

// must runs the program, which has to end with this code, and decodes what it
// prints as JSON.
func must[T any](t *testing.T, s *site, code int, caller string, args ...string) (v T) {
	t.Helper()
	stdout, stderr, got := s.as(t, caller, append(args, "-o", "json")...)
	if got != code {
		t.Fatalf("runner %s: exit %d, want %d\n%s%s", strings.Join(args, " "), got, code, stdout, stderr)
	}
	if err := json.Unmarshal([]byte(stdout), &v); err != nil {
		t.Fatalf("runner %s: %v\n%s", strings.Join(args, " "), err, stdout)
	}
	return v
}

// login tries to log in as the account of a grant.
func (s *site) login(t *testing.T, account, password, key string) error {
	t.Helper()
	d := &ssh.Dialer{}
	defer d.Close()
	cfg := ssh.Config{Address: s.box.Addr, User: account, HostKeys: ssh.HostKeys{Known: []string{s.box.HostKey}}}
	cfg.Auth = ssh.Auth{Methods: []string{ssh.MethodPassword}, Password: secret.New(password)}
	if key != "" {
		cfg.Auth = ssh.Auth{Methods: []string{ssh.MethodPublicKey}, PrivateKey: secret.New(key)}
	}
	return d.Prove(t.Context(), cfg)
}

// refused fails unless the machine refused a login.
func refused(t *testing.T, err error) {
	t.Helper()
	te, is := errors.AsType[*transport.Error](err)
	if !is || te.Phase != transport.PhaseAuth {
		t.Errorf("login: %v, want it refused", err)
	}
}

// knows reports whether the machine knows an account.
func (s *site) knows(t *testing.T, account string) bool {
	t.Helper()
	out, err := s.box.Shell(t.Context(), "grep -rl -w "+account+" /etc/passwd /etc/shadow /etc/group /etc/gshadow /etc/sudoers.d; ls -d /home/"+account+" 2>/dev/null; true")
	if err != nil {
		t.Fatal(err)
	}
	return out != ""
}

// The whole way of two grants of one credential, as their requesters see it.
func TestGrantFromRequestToReceipt(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	ana := must[secretJSON](t, s, 0, "ana", "grant", "request", "web-admin", "--for", "1h", "--reason", "INC-42")
	if err := s.login(t, ana.Account, ana.Password, ""); err != nil {
		t.Fatalf("log in by password: %v", err)
	}

	jobs := must[[]jobJSON](t, s, 0, "ana", "job", "list", "--grant", ana.Grant)
	if len(jobs) != 1 || jobs[0].Kind != "delete" || jobs[0].State != "waiting" || jobs[0].Segura != "Waiting approval" ||
		!jobs[0].Due.Equal(ana.Expires) || jobs[0].Requester != "ana" || jobs[0].Device != "web" || jobs[0].Account != ana.Account {
		t.Errorf("the deletion does not wait for the expiry: %+v", jobs)
	}

	_, stderr, code := s.as(t, "ana", "grant", "request", "web-admin")
	if code != exitDenied || !strings.Contains(stderr, ana.Grant) || !strings.Contains(stderr, stamp(ana.Expires)) {
		t.Errorf("second grant: exit %d, want 5 with the id and expiry of the first:\n%s", code, stderr)
	}

	bo := must[secretJSON](t, s, 0, "bo", "grant", "request", "web-admin", "--generate-key", "--for", "30m")
	if bo.Account == ana.Account || bo.Expires.Equal(ana.Expires) || bo.PrivateKey == "" || bo.Password != "" {
		t.Errorf("the grant of another requester is not independent, or has no key: %+v", bo)
	}
	if err := s.login(t, bo.Account, "", bo.PrivateKey); err != nil {
		t.Fatalf("log in by key: %v", err)
	}

	receipt := must[receiptJSON](t, s, 0, "ana", "grant", "end", ana.Grant)
	if !receipt.Empty || receipt.State != "removed" || len(receipt.Left)+len(receipt.Missing) > 0 || !receipt.Known ||
		receipt.NoAccess.IsZero() || receipt.NoTrace.Before(receipt.NoAccess) {
		t.Errorf("receipt: %+v", receipt)
	}
	refused(t, s.login(t, ana.Account, ana.Password, ""))
	if s.knows(t, ana.Account) {
		t.Errorf("the machine still knows %s", ana.Account)
	}
	if err := s.login(t, bo.Account, "", bo.PrivateKey); err != nil {
		t.Errorf("the other grant ended too: %v", err)
	}
	if again := must[receiptJSON](t, s, 0, "ana", "grant", "receipt", ana.Grant); !again.Empty {
		t.Errorf("receipt afterwards: %+v", again)
	}
	must[receiptJSON](t, s, 0, "bo", "grant", "end", bo.Grant)
	refused(t, s.login(t, bo.Account, "", bo.PrivateKey))
	if jobs := must[[]jobJSON](t, s, 0, "root", "job", "list"); len(jobs) != 0 {
		t.Errorf("jobs are left: %+v", jobs)
	}
	s.hides(t, ana.Password, bo.PrivateKey)
}

// hides fails when a secret stands in the state of the workspace, or in what
// its commands print.
func (s *site) hides(t *testing.T, secrets ...string) {
	t.Helper()
	var seen bytes.Buffer
	err := filepath.WalkDir(filepath.Join(s.dir, "state"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		seen.Write(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range must[[]grantJSON](t, s, 0, "root", "grant", "list", "--all") {
		for _, verb := range []string{"show", "log", "receipt"} {
			for _, form := range []string{outTable, outJSON} {
				out, stderr, _ := s.as(t, "root", "grant", verb, g.ID, "-o", form)
				seen.WriteString(out + stderr)
			}
		}
	}
	for _, x := range secrets {
		for line := range strings.Lines(x) { // keys have several
			if line = strings.TrimSpace(line); len(line) > 16 && !strings.HasPrefix(line, "-----") && bytes.Contains(seen.Bytes(), []byte(line)) {
				t.Errorf("a secret is kept or shown in clear")
			}
		}
	}
}

// Secrets reach terminals and programs that ask for them, and nobody twice.
func TestSecretsAreHandedOutOnce(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	stdout, stderr, code := s.as(t, "ana", "grant", "request", "web-admin")
	id := strings.TrimSpace(stdout)
	if code != 0 || !strings.HasPrefix(id, "g-") || strings.Contains(id, "\n") || !strings.Contains(stderr, "runner grant collect "+id) {
		t.Fatalf("into a pipe: exit %d, want only the id and how to collect\n%s%s", code, stdout, stderr)
	}
	if _, _, code := s.as(t, "bo", "grant", "collect", id, "-o", "json"); code != exitDenied {
		t.Errorf("somebody else collects: exit %d, want 5", code)
	}
	if _, _, code := s.as(t, "ana", "grant", "collect", id); code != exitUsage {
		t.Errorf("collect into a pipe: exit %d, want 3", code)
	}
	got := must[secretJSON](t, s, 0, "ana", "grant", "collect", id)
	if err := s.login(t, got.Account, got.Password, ""); err != nil {
		t.Error(err)
	}
	if out, _, code := s.as(t, "ana", "grant", "collect", id, "-o", "json"); code != exitFailed || out != "" {
		t.Errorf("second time: exit %d, stdout %q", code, out)
	}

	key := filepath.Join(t.TempDir(), "key")
	stdout, stderr, code = s.until(t, t.Context(), "bo", true, "grant", "request", "web-admin", "--key-out", key)
	if code != 0 || !strings.Contains(stdout, "log in    ssh -p ") || strings.Contains(stdout, "PRIVATE KEY") {
		t.Errorf("on a terminal: exit %d\n%s%s", code, stdout, stderr)
	}
	st, err := os.Stat(key)
	if err != nil {
		t.Fatal(err)
	}
	if st.Mode().Perm() != 0o600 {
		t.Errorf("the key file has mode %o", st.Mode().Perm())
	}
	text, err := os.ReadFile(key)
	if err != nil {
		t.Fatal(err)
	}
	g := must[[]grantJSON](t, s, 0, "bo", "grant", "list", "--requester", "bo")[0]
	if err := s.login(t, g.Account, "", string(text)); err != nil {
		t.Errorf("log in with the key file: %v", err)
	}
	stdout, _, code = s.until(t, t.Context(), "root", true, "grant", "request", "web-admin")
	if code != 0 || !strings.Contains(stdout, "\npassword  ") {
		t.Errorf("on a terminal: exit %d\n%s", code, stdout)
	}
}

// Who brings a public key gets an account that takes it, and no secret.
func TestOwnPublicKeyNeedsNoSecret(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	_, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	block, line, err := ssh.MarshalKey(private, "ana@laptop")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "id.pub")
	if err := os.WriteFile(file, []byte(line+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	stdout, stderr, code := s.as(t, "ana", "grant", "request", "web-admin", "-p", "public_key=@"+file)
	if code != 0 || !strings.Contains(stdout, "log in ") || strings.Contains(stdout, "password") {
		t.Fatalf("exit %d\n%s%s", code, stdout, stderr)
	}
	g := must[[]grantJSON](t, s, 0, "ana", "grant", "list")[0]
	if err := s.login(t, g.Account, "", string(pem.EncodeToMemory(block))); err != nil {
		t.Errorf("log in with the own key: %v", err)
	}
}

// Interrupting a request ends the grant: nobody is there for the secret.
func TestInterruptedRequestLeavesNoAccount(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	p, out := tempProcess(t)
	p.caller = func() (string, error) { return "ana", nil }
	p.stderr = writerFunc(func(text []byte) {
		if bytes.Contains(text, []byte(`step 1/`)) {
			interrupt()
		}
		_, _ = out.err.Write(text)
	})
	code := runUntil(ctx, []string{"--workspace", s.dir, "grant", "request", "web-admin", "-o", "json"}, p)
	if code != exitInterrupted {
		t.Errorf("exit %d, want 130\n%s", code, out)
	}
	if strings.Contains(out.out.String(), "password") {
		t.Errorf("the secret of an ended grant was printed:\n%s", out)
	}
	g := must[[]grantJSON](t, s, 0, "ana", "grant", "list", "--all")[0]
	if g.State != "removed" || g.EndedBy != "end" {
		t.Errorf("grant is %s, ended by %q\n%s", g.State, g.EndedBy, out)
	}
	if s.knows(t, g.Account) {
		t.Errorf("the machine knows %s", g.Account)
	}
}

type writerFunc func([]byte)

func (f writerFunc) Write(p []byte) (int, error) { f(p); return len(p), nil }

const brokenTemplate = `schema: runner/v1
kind: create
name: broken
platform: linux
removal: linux-user
become: root
params:
  username: {type: string, default: "{{ grant.account }}"}
  uid: {type: int, default: "{{ grant.uid }}"}
steps:
  - name: Create the account
    user: {name: "{{ params.username }}", uid: "{{ params.uid }}"}
  - name: Ask the oracle
    shell:
      cmd: |
        echo some words
        printf 'the oracle \033[31msays no\n' >&2
        exit 7
    undo: "true"
outputs:
  username: params.username
  uid: params.uid
  home: '"/home/" + params.username'
`

// When a step fails a person reads which one, where, what the device said,
// what became of the rest, and how to see more.
func TestFailedCreationIsUndoneAndExplained(t *testing.T) {
	t.Parallel()
	s := newSite(t, map[string]string{"broken": brokenTemplate})
	stdout, stderr, code := s.as(t, "ana", "grant", "request", "broken", "-o", "json")
	if code != exitUndone {
		t.Fatalf("exit %d, want 8\n%s", code, stderr)
	}
	for _, want := range []string{
		`was not created on web: step 2/2 "Ask the oracle" failed: `, "says no", "(exit 7)",
		"runner: undone: account jit-", "runner: hint: runner execution show x-",
	} {
		if !strings.Contains(stderr, want) {
			t.Errorf("not said: %s\n%s", want, stderr)
		}
	}
	if strings.Contains(stderr, "\x1b") {
		t.Errorf("the device drives the terminal: %q", stderr)
	}
	var g grantJSON
	if err := json.Unmarshal([]byte(stdout), &g); err != nil || g.State != "removed" || g.Failure == "" {
		t.Errorf("%v: %+v", err, g)
	}
	if s.knows(t, g.Account) {
		t.Errorf("the machine knows %s", g.Account)
	}
	_, hint, _ := strings.Cut(stderr, "runner execution show ")
	id, _, _ := strings.Cut(hint, " ")
	out, _, code := s.as(t, "ana", "execution", "show", id, "--failed")
	if code != 0 || !strings.Contains(out, "2 err | the oracle says no") || !strings.Contains(out, "2 out | some words") || strings.Contains(out, "Create the account") {
		t.Errorf("the command that shows more: exit %d\n%s", code, out)
	}
	out, _, _ = s.as(t, "ana", "execution", "log", id, "--step", "1")
	if strings.Contains(out, "oracle") || !strings.Contains(out, "Create the account") {
		t.Errorf("--step 1 shows\n%s", out)
	}
}

// A device that is gone keeps a removal waiting, in view and steered by
// operators, and never ends it.
func TestRemovalWithoutDeviceWaitsInView(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	ana := must[secretJSON](t, s, 0, "ana", "grant", "request", "web-admin")
	if _, _, code := s.as(t, "bo", "grant", "end", ana.Grant); code != exitDenied {
		t.Errorf("somebody else ends it: exit %d, want 5", code)
	}
	if _, _, code := s.as(t, "ana", "grant", "revoke", ana.Grant); code != exitDenied {
		t.Errorf("a requester revokes: exit %d, want 5", code)
	}
	if err := s.box.Stop(); err != nil {
		t.Fatal(err)
	}
	_, stderr, code := s.as(t, "root", "grant", "revoke", ana.Grant)
	if code != exitLeft {
		t.Fatalf("exit %d, want 9\n%s", code, stderr)
	}
	for _, want := range []string{"is not removed from web yet: dial ", "runner: left: ", "the device itself ends access at ", "delete is tried again at ", "runner: hint: runner execution show x-"} {
		if !strings.Contains(stderr, want) {
			t.Errorf("not said: %s\n%s", want, stderr)
		}
	}
	j := must[[]jobJSON](t, s, 0, "root", "job", "list")[0]
	if j.State != "waiting" || j.Attempt != 1 || j.BlockedBy == "" || j.LastError == "" {
		t.Errorf("the job: %+v", j)
	}
	if _, _, code := s.as(t, "ana", "job", "pause", j.ID, "--for", "1h"); code != exitDenied {
		t.Errorf("a requester pauses: exit %d, want 5", code)
	}
	if p := must[jobJSON](t, s, 0, "root", "job", "pause", j.ID, "--for", "1h"); p.State != "paused" || p.PausedUntil.IsZero() {
		t.Errorf("paused: %+v", p)
	}
	if r := must[jobJSON](t, s, 0, "root", "job", "resume", j.ID); r.State != "waiting" {
		t.Errorf("resumed: %+v", r)
	}
	if r := must[jobJSON](t, s, exitLeft, "root", "job", "run", j.ID); r.Attempt != 2 || r.State != "waiting" {
		t.Errorf("run: %+v", r)
	}
	if v := must[sweepJSON](t, s, exitLeft, "root", "sweep"); len(v.Open) != 1 || v.Open[0].ID != ana.Grant {
		t.Errorf("sweep: %+v", v)
	}
	show := must[caseJSON](t, s, 0, "ana", "grant", "show", ana.Grant)
	if show.EndedBy != "revoke" || show.Next == nil || show.Next.What != "delete is tried again" || len(show.Changes) == 0 ||
		!slices.ContainsFunc(show.Timeline, func(e eventJSON) bool { return e.Action == "job.paused" && e.Actor == "root" }) {
		t.Errorf("show: %+v", show)
	}
	refusedAgain(t, s)
}

// refusedAgain: while the account of a grant may exist its requester gets no other.
func refusedAgain(t *testing.T, s *site) {
	t.Helper()
	if _, stderr, code := s.as(t, "ana", "grant", "request", "web-admin"); code != exitDenied || !strings.Contains(stderr, "it is ending") {
		t.Errorf("a second grant while the first is ending: exit %d\n%s", code, stderr)
	}
}

const plainTemplate = `schema: runner/v1
kind: create
name: plain
removal: linux-user
platform: linux
become: root
params:
  username: {type: string}
  uid: {type: int}
steps:
  - name: Create the account
    user: {name: "{{ params.username }}", uid: "{{ params.uid }}"}
outputs:
  username: params.username
`

// A device is tried stage by stage, and a template without a grant.
func TestDeviceCheckAndTemplateRun(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	v := must[[]checkJSON](t, s, 0, "root", "device", "check", "web")
	if len(v) != 1 || !v[0].OK || len(v[0].Stages) != len(stages) || v[0].Facts["os_family"] == nil {
		t.Errorf("%+v", v)
	}
	for _, st := range v[0].Stages {
		if st.Status != "ok" {
			t.Errorf("stage %s is %s", st.Stage, st.Status)
		}
	}
	s.write(t, "templates/create/plain.yaml", plainTemplate)
	args := []string{"template", "run", "create/plain", "--device", "web", "-p", "username=tess", "-p", "uid=71000"}
	if _, stderr, code := s.as(t, "ana", args...); code != exitDenied {
		t.Errorf("somebody who is no operator: exit %d\n%s", code, stderr)
	}
	if r := must[runJSON](t, s, 0, "root", append(args, "--check")...); r.Outcome != "ok" || s.knows(t, "tess") {
		t.Errorf("--check changed something: %+v", r)
	}
	r := must[runJSON](t, s, 0, "root", args...)
	if r.Outcome != "ok" || !s.knows(t, "tess") || r.Outputs["username"] != "tess" {
		t.Errorf("run: %+v", r)
	}
	if x := must[executionJSON](t, s, 0, "root", "execution", "show", r.ID); x.GrantID != "" || len(x.Results) != len(r.Results) {
		t.Errorf("stored: %+v", x)
	}
	args[6], args[8] = "username=other", "uid=71001"
	if r := must[runJSON](t, s, 0, "root", append(args, "--no-fuse")...); r.Outcome != "ok" || !s.knows(t, "other") {
		t.Errorf("--no-fuse: %+v", r)
	}
}

// A run that fails because an account exists already must not take that
// account away when it undoes what it did: it did not make it.
func TestFailedRunLeavesAloneWhatWasThereBefore(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	s.write(t, "templates/create/plain.yaml", plainTemplate)
	args := []string{"template", "run", "create/plain", "--device", "web", "-p", "username=tess", "-p", "uid=71000"}
	must[runJSON](t, s, 0, "root", args...)
	_, stderr, code := s.as(t, "root", args...)
	if code != exitUndone || !strings.Contains(stderr, "exists already") {
		t.Errorf("second run: exit %d\n%s", code, stderr)
	}
	if !s.knows(t, "tess") {
		t.Errorf("the account that was there before is gone:\n%s", stderr)
	}
}
