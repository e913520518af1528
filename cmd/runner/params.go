package main

import (
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"

	"runner/engine/lang"
	"runner/engine/secret"
	"runner/engine/template"
)

// maxParamFile bounds what -p key=@file reads, in bytes.
const maxParamFile = 1 << 20

// givenParams are the values of -p.
type givenParams struct {
	values  map[string]any
	literal []string // those whose value stands on the command line itself
}

// readParams reads key=value, key=@file (without one newline at its end),
// key=@- (standard input) and key=@@text, which is the text @text.
func readParams(list []string, stdin io.Reader) (givenParams, error) {
	g := givenParams{values: map[string]any{}}
	for _, p := range list {
		key, text, found := strings.Cut(p, "=")
		if !found || key == "" {
			return g, usagef("-p %s: write key=value or key=@file", key)
		}
		if _, twice := g.values[key]; twice {
			return g, usagef("-p %s is given twice", key)
		}
		switch {
		case strings.HasPrefix(text, "@@"):
			g.values[key] = text[1:]
			g.literal = append(g.literal, key)
		case strings.HasPrefix(text, "@"):
			read, err := readParam(text[1:], stdin)
			if err != nil {
				return g, usagef("-p %s: %v", key, err)
			}
			g.values[key] = read
		default:
			g.values[key] = text
			g.literal = append(g.literal, key)
		}
	}
	return g, nil
}

func readParam(file string, stdin io.Reader) (string, error) {
	r := stdin
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return "", err
		}
		defer f.Close()
		r = f
	}
	text, err := io.ReadAll(io.LimitReader(r, maxParamFile+1))
	if err != nil {
		return "", err
	}
	if len(text) > maxParamFile {
		return "", fmt.Errorf("%s is over 1 MiB", file)
	}
	return strings.TrimSuffix(strings.TrimSuffix(string(text), "\n"), "\r"), nil
}

// names returns which params are given, sorted.
func (g givenParams) names() []string { return slices.Sorted(maps.Keys(g.values)) }

// fit refuses secrets that stand on the command line, where every user of the
// machine can read them, wraps those that came from files, and takes lists
// apart: at commas, or line by line when they came from a file.
func (g givenParams) fit(t *template.Template) error {
	for _, p := range t.Params {
		v, given := g.values[p.Name]
		if s, is := v.(string); is && p.Type.Kind != lang.SecretKind && strings.Contains(s, "PRIVATE KEY-----") {
			return usagef("-p %s holds a private key, which is none of runner's business: give the public one, whose file ends with .pub", p.Name)
		}
		if text, is := v.(string); is && p.Type.Kind == lang.ListKind {
			g.values[p.Name] = entries(text, slices.Contains(g.literal, p.Name))
		}
		if !given || p.Type.Kind != lang.SecretKind {
			continue
		}
		if slices.Contains(g.literal, p.Name) {
			return usagef("param %q is a secret: everybody on this machine can read command lines; write -p %s=@FILE or -p %s=@-", p.Name, p.Name, p.Name)
		}
		if s, is := v.(string); is {
			g.values[p.Name] = secret.New(s)
		}
	}
	return nil
}

// entries returns the entries of a list; without text there are none.
func entries(text string, literal bool) []any {
	at := "\n"
	if literal {
		at = ","
	}
	list := []any{}
	for e := range strings.SplitSeq(text, at) {
		if e = strings.TrimSpace(e); e != "" {
			list = append(list, e)
		}
	}
	return list
}
