package main

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"runner/engine/lang"
)

// profile says how a program of the person's machine is given the account of a
// grant: by its environment, files that only it and its user can read, or its
// standard input. Never by its arguments, which everybody on the machine can see.
type profile struct {
	commands []string // that it is for, where none is named
	key      bool     // the account gets a key instead of a password
	env      []profileText
	files    []profileText
	stdin    *lang.Value
	args     []*lang.Value // in front of the command's own
}

// profileText is a text with a name, in the order of the file.
type profileText struct {
	name string
	text *lang.Value
}

// builtinProfiles are there in every workspace; profiles of runner.yaml with the
// same name take their place.
const builtinProfiles = `
psql:
  commands: [psql, pg_dump, pg_dumpall, pg_restore, pgcli]
  files:
    pgpass: "*:*:*:{{ account }}:{{ password | replace \"\\\\\" \"\\\\\\\\\" | replace \":\" \"\\\\:\" }}\n"
  env: {PGPASSFILE: '{{ files.pgpass }}', PGUSER: '{{ account }}'}
mysql:
  commands: [mysql, mysqldump, mysqladmin, mariadb, mariadb-dump, mycli]
  files:
    cnf: "[client]\nuser={{ account }}\npassword=\"{{ password | replace \"\\\\\" \"\\\\\\\\\" | replace \"\\\"\" \"\\\\\\\"\" }}\"\n"
  args: ['--defaults-extra-file={{ files.cnf }}']
ssh:
  commands: [ssh, scp, sftp]
  key: true
  files: {key: '{{ private_key }}', known_hosts: '{{ known_hosts }}'}
  args: [-i, '{{ files.key }}', -o, IdentitiesOnly=yes, -o, 'User={{ account }}', -o, 'HostName={{ address }}', -o, 'Port={{ port }}', -o, 'UserKnownHostsFile={{ files.known_hosts }}', -o, StrictHostKeyChecking=yes]
xfreerdp:
  commands: [xfreerdp, xfreerdp3, wlfreerdp]
  args: ['/v:{{ address }}', '/u:{{ account }}', /from-stdin]
  stdin: "{{ password }}\n"
env:
  env: {RUNNER_ACCOUNT: '{{ account }}', RUNNER_PASSWORD: '{{ password }}', RUNNER_ADDRESS: '{{ address }}', RUNNER_PORT: '{{ port }}'}
file:
  files: {secret: "{{ password }}\n"}
  env: {RUNNER_ACCOUNT: '{{ account }}', RUNNER_SECRET_FILE: '{{ files.secret }}', RUNNER_ADDRESS: '{{ address }}', RUNNER_PORT: '{{ port }}'}
stdin:
  env: {RUNNER_ACCOUNT: '{{ account }}', RUNNER_ADDRESS: '{{ address }}', RUNNER_PORT: '{{ port }}'}
  stdin: "{{ password }}\n"
`

// secretNames are what args may not hold.
var secretNames = []string{"password", "private_key"}

var (
	envName  = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
	fileName = regexp.MustCompile(`^[a-z][a-z0-9_]*$`)
)

// readProfiles reads the key profiles of runner.yaml.
func readProfiles(d *lang.Decoder, n *lang.Node) map[string]*profile {
	out := map[string]*profile{}
	f := d.Map(n, "profiles")
	for _, e := range f.Rest() {
		if !fileName.MatchString(e.Key.Text) {
			d.Add(e.Key, "bad-name", "%q is no name of a profile; they have lower-case letters, digits and underscores", e.Key.Text)
			continue
		}
		out[e.Key.Text] = readProfile(d, e.Value)
	}
	return out
}

func readProfile(d *lang.Decoder, n *lang.Node) *profile {
	f := d.Map(n, "a profile")
	p := &profile{commands: f.Strings("commands"), key: f.Take("key") != nil && f.Bool("key")}
	scope := lang.Scope{
		"account": lang.String, "password": lang.String, "private_key": lang.String, "address": lang.String, "port": lang.Int,
		"device": lang.String, "known_hosts": lang.String,
	}
	paths := map[string]lang.Type{}
	texts := func(key string, names *regexp.Regexp, scope lang.Scope) (list []profileText) {
		at := f.Take(key)
		if at == nil {
			return nil
		}
		for _, e := range d.Map(at, key).Rest() {
			if !names.MatchString(e.Key.Text) {
				d.Add(e.Key, "bad-name", "%q cannot be a name in %s", e.Key.Text, key)
				continue
			}
			list = append(list, profileText{e.Key.Text, compileText(d, e.Value, scope)})
		}
		return list
	}
	p.files = texts("files", fileName, scope)
	for _, t := range p.files {
		paths[t.name] = lang.String
	}
	scope = scope.With("files", lang.MapOf(paths))
	p.env = texts("env", envName, scope)
	if at := f.Take("stdin"); at != nil {
		p.stdin = compileText(d, at, scope)
	}
	for _, it := range f.Items("args") {
		v := compileText(d, it, scope)
		if v != nil && slices.ContainsFunc(v.Refs(), func(path []string) bool { return slices.Contains(secretNames, path[0]) }) {
			d.Add(it, "secret-in-args", "everybody on this machine can see the arguments of a program; hand %s over by env, files or stdin", strings.Join(secretNames, " and "))
		}
		p.args = append(p.args, v)
	}
	f.End()
	return p
}

func compileText(d *lang.Decoder, n *lang.Node, scope lang.Scope) *lang.Value {
	v, ps := lang.CompileValue(n, lang.String, scope)
	d.Join(ps)
	return v
}

// profiles returns those of the program and of the workspace.
func (a *app) profiles() (map[string]*profile, error) {
	docs, ps := lang.Parse("built-in profiles", []byte(builtinProfiles))
	d := lang.Decoder{Problems: ps}
	if err := d.Problems.Err(); err != nil {
		return nil, err
	}
	all := readProfiles(&d, docs[0])
	if err := d.Problems.Err(); err != nil {
		return nil, err
	}
	w, err := a.workspace()
	if err != nil {
		return nil, err
	}
	maps.Copy(all, w.profiles)
	return all, nil
}

// profileFor returns the profile with a name, or without one that of a program.
func (a *app) profileFor(name, program string) (*profile, error) {
	all, err := a.profiles()
	if err != nil {
		return nil, err
	}
	var names []string
	for n := range all {
		names = append(names, n)
	}
	slices.Sort(names)
	if name != "" {
		if p := all[name]; p != nil {
			return p, nil
		}
		return nil, unknownName("profile", name, names)
	}
	base := filepath.Base(program)
	for _, n := range names {
		if slices.Contains(all[n].commands, base) {
			return all[n], nil
		}
	}
	return nil, usagef("how %s is given the account is not known; say --profile: %s", base, lang.Words(names))
}

// handed is what a program is given by a profile.
type handed struct {
	dir   string // of the files; empty: there are none
	env   []string
	args  []string
	stdin string
	piped bool // stdin is a text, not that of this process
}

// hand makes what p says, for the values of a grant. discard takes the files away.
func (p *profile) hand(env lang.Env) (h *handed, err error) {
	h = &handed{}
	defer func() {
		if err != nil {
			err = errors.Join(err, h.discard())
		}
	}()
	text := func(v *lang.Value) (string, error) {
		got, err := v.Eval(env)
		if err != nil {
			return "", fmt.Errorf("profile: %w", err)
		}
		return fmt.Sprint(got), nil
	}
	paths := map[string]any{}
	for _, t := range p.files {
		if h.dir == "" {
			if h.dir, err = os.MkdirTemp(privateDir(), "runner-"); err != nil {
				return h, err
			}
		}
		body, err := text(t.text)
		if err != nil {
			return h, err
		}
		path := filepath.Join(h.dir, t.name)
		paths[t.name] = path
		if err := os.WriteFile(path, []byte(body), 0o600); err != nil {
			return h, err
		}
	}
	env["files"] = paths
	for _, t := range p.env {
		v, err := text(t.text)
		if err != nil {
			return h, err
		}
		h.env = append(h.env, t.name+"="+v)
	}
	for _, a := range p.args {
		v, err := text(a)
		if err != nil {
			return h, err
		}
		h.args = append(h.args, v)
	}
	if p.stdin != nil {
		h.piped = true
		if h.stdin, err = text(p.stdin); err != nil {
			return h, err
		}
	}
	return h, nil
}

// privateDir is where files live in memory only, when there is such a place.
func privateDir() string {
	for _, dir := range []string{os.Getenv("XDG_RUNTIME_DIR"), "/dev/shm"} {
		if st, err := os.Stat(dir); dir != "" && err == nil && st.IsDir() { //nolint:gosec // the person's own folder
			return dir
		}
	}
	return "" // the system's folder for temporary files
}

func (h *handed) discard() error {
	if h.dir == "" {
		return nil
	}
	return os.RemoveAll(h.dir)
}
