package inventory

import (
	"slices"
	"strings"

	"runner/engine/lang"
)

// sourceKeys are the places where a secret may be.
var sourceKeys = []string{"file", "command", "keytab", "ccache", "agent"}

// source reads where a secret is. What stands in its place may itself be a
// secret, so nothing of it is shown. passwordOnly: it cannot be a key.
func (l *loader) source(n *lang.Node, key string, passwordOnly bool) *Source {
	if n.Kind != lang.MapNode {
		l.add(l.masked(n, "literal-secret", "%s says where the secret is and never holds it; put it into a file of mode 0600, and write here %s: {file: /etc/runner/%s}", key, key, fileFor(key)))
		return nil
	}
	f := l.Map(n, key).By(&sourceTable, "")
	s := &Source{
		File:   l.path(f, "file"),
		Keytab: l.path(f, "keytab"),
		CCache: l.path(f, "ccache"),
		Agent:  f.String("agent", ""),
	}
	if c := f.Take("command"); c != nil {
		s.Command = l.command(f, c)
	}
	var given []string
	for _, k := range sourceKeys {
		if n.Get(k) != nil {
			given = append(given, k)
		}
	}
	s.Kind = f.Enum("kind")
	s.Certificate = l.path(f, "certificate")
	if p := f.Take("passphrase_from"); p != nil {
		s.Passphrase = l.source(p, "passphrase_from", true)
	}
	refused := l.literals(f, key+": {file: /etc/runner/"+fileFor(key)+"}")
	f.End()
	switch {
	case len(given) == 0 && !refused:
		l.Add(n, "missing-key", "%s does not say where the secret is; write one of %s", key, lang.Words(sourceKeys))
	case len(given) > 1:
		l.Add(f.Key(given[1]), "too-many", "%s has %s; it can have only one of %s", key, strings.Join(given, " and "), lang.Words(sourceKeys))
	case len(given) == 1:
		l.sourceExtras(f, s, given[0], passwordOnly)
	}
	return s
}

// sourceExtras checks the keys that go only with some kinds of sources.
func (l *loader) sourceExtras(f *lang.Fields, s *Source, given string, passwordOnly bool) {
	readable := given == "file" || given == "command"
	if !readable {
		if f.Node.Get("kind") != nil {
			l.Add(f.Key("kind"), "no-effect", "kind has no effect with %s; it says what a file or command gives", given)
		}
		s.Kind = ""
	}
	if passwordOnly && (!readable || s.Kind == "private_key") {
		l.Add(f.Node, "wrong-value", "%s must come from a file or command, as plain text; write {file: …} or {command: […]}, without kind: private_key", f.What)
		return
	}
	if s.Certificate != "" && given != "agent" && s.Kind != "private_key" {
		l.Add(f.Key("certificate"), "no-effect", "certificate belongs to a key; add kind: private_key")
	}
	if s.Passphrase != nil && s.Kind != "private_key" {
		l.Add(f.Key("passphrase_from"), "no-effect", "passphrase_from opens an encrypted private key; add kind: private_key")
	}
}

// command reads a program with its arguments.
func (l *loader) command(f *lang.Fields, n *lang.Node) []string {
	if n.Kind != lang.ListNode {
		l.Add(n, "wrong-type", "command is a list of the program and its arguments, for no shell runs it; write command: [/usr/bin/pass, show, runner/web]")
		return nil
	}
	var words []string
	for _, it := range n.Items {
		if s, ok := l.Text(it, "an entry of command"); ok {
			words = append(words, s)
		}
	}
	if len(n.Items) == 0 {
		l.Add(f.Key("command"), "wrong-value", "command is an empty list; write the program and its arguments")
	}
	return words
}

// path reads the name of a file.
func (l *loader) path(f *lang.Fields, key string) string {
	s := f.String(key, "")
	switch {
	case strings.HasPrefix(s, "~"):
		l.Add(f.Take(key), "bad-path", "%s is %q; ~ is not known here, write the full path", key, s)
	case strings.Contains(s, "$"):
		l.Add(f.Take(key), "bad-path", "%s is %q; variables are not known here, write the full path", key, s)
	default:
		return s
	}
	return ""
}

// Keys under which people write a secret itself, or a variable that holds it.
var (
	literalKeys  = []string{"password", "passwd", "pass", "secret", "secret_value", "value", "literal", "text", "token", "passphrase", "private_key", "key", "become_password", "sudo_password", "api_key"}
	variableKeys = []string{"env", "environment", "env_var", "variable", "password_env", "secret_env", "from_env"}
	fileKeys     = []string{"key_file", "private_key_file", "identity_file", "password_file", "secret_file", "keyfile", "password_from", "secret_source"}
)

// literals refuses secrets that are written into a document or an environment
// variable; instead is what to write. It reports whether there was one.
func (l *loader) literals(f *lang.Fields, instead string) bool {
	found := false
	for _, e := range f.Rest() {
		key := strings.ToLower(e.Key.Text)
		switch {
		case slices.Contains(literalKeys, key):
			l.add(lang.Hidden(e.Key, "literal-secret", "a secret is never written here; put it into a file of mode 0600, and write here %s", instead))
		case slices.Contains(variableKeys, key):
			l.add(lang.Hidden(e.Key, "environment-secret", "a secret is never read from the environment, where every child process sees it; put it into a file of mode 0600, and write here %s", instead))
		case slices.Contains(fileKeys, key):
			l.add(lang.Hidden(e.Key, "unknown-key", "unknown key %q in %s; write %s", e.Key.Text, f.What, instead))
		default:
			continue
		}
		found = true
		f.Skip(e.Key.Text)
	}
	return found
}

func (l *loader) add(p lang.Problem) { l.Problems = append(l.Problems, p) }

// masked returns a problem at a value that must not be shown.
func (l *loader) masked(n *lang.Node, code, format string, args ...any) lang.Problem {
	p := n.Problem(code, format, args...)
	if r := []rune(p.Source); p.Pos.Col >= 1 && p.Pos.Col-1 <= len(r) {
		p.Source, p.Width = string(r[:p.Pos.Col-1])+"***", 3
	}
	return p
}

func fileFor(key string) string {
	switch key {
	case "password_from":
		return "sudo-password"
	case "passphrase_from":
		return "passphrase"
	}
	return "secret"
}
