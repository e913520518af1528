package krb

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// Conf is what is used of a krb5.conf: where KDCs are and which realm a host is in.
// Everything else in it is passed over, since here only what is safe can be chosen.
type Conf struct {
	DefaultRealm string
	Realms       map[string][]string // KDCs, by realm in upper case
	Domains      map[string]string   // realm of a host, or of a domain with a dot before it
	NoDNS        bool                // dns_lookup_kdc = false
}

// maxInclude bounds how deep and how far files include others.
const maxInclude = 64

// ReadConf reads a krb5.conf and what it includes.
func ReadConf(path string) (*Conf, error) {
	c := &Conf{Realms: map[string][]string{}, Domains: map[string]string{}}
	left := maxInclude
	if err := c.file(path, &left); err != nil {
		return nil, err
	}
	return c, nil
}

func (c *Conf) file(path string, left *int) error {
	if *left--; *left < 0 {
		return fmt.Errorf("%s: more than %d files are included", path, maxInclude)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if len(b) > maxFile {
		return fmt.Errorf("%s: too large for a krb5.conf", path)
	}
	g := group{c: c}
	for line := range strings.Lines(string(b)) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' || line[0] == ';' {
			continue
		}
		if word, arg, _ := strings.Cut(line, " "); word == "include" || word == "includedir" {
			if err := c.include(word, strings.TrimSpace(arg), left); err != nil {
				return err
			}
			continue
		}
		if line[0] == '[' {
			g = group{c: c, section: strings.ToLower(strings.Trim(line, "[]* "))}
			continue
		}
		// groups may open and close on one line
		line = strings.NewReplacer("{", "{\n", "}", "\n}\n").Replace(line)
		for part := range strings.SplitSeq(line, "\n") {
			g.take(strings.TrimSpace(part))
		}
	}
	return nil
}

// group is where in a file we are.
type group struct {
	c       *Conf
	section string
	depth   int    // of braces
	realm   string // whose braces are open, in [realms]
}

// take reads one relation, or the start or end of a group.
func (g *group) take(s string) {
	if s == "}" {
		g.depth--
		return
	}
	key, value, ok := strings.Cut(s, "=")
	if !ok {
		return
	}
	key, value = strings.TrimSpace(key), strings.TrimSpace(value)
	if value == "{" {
		if g.depth++; g.depth == 1 {
			g.realm = strings.ToUpper(key)
		}
		return
	}
	value = strings.Trim(strings.TrimSuffix(value, "*"), `" `)
	switch {
	case g.section == "realms" && g.depth == 1 && key == "kdc":
		if host, ok := kdcOf(value); ok {
			g.c.Realms[g.realm] = append(g.c.Realms[g.realm], host)
		}
	case g.depth != 0:
	case g.section == "domain_realm":
		g.c.Domains[strings.ToLower(key)] = strings.ToUpper(value)
	case g.section == "libdefaults" && key == "default_realm":
		g.c.DefaultRealm = strings.ToUpper(value)
	case g.section == "libdefaults" && key == "dns_lookup_kdc":
		switch strings.ToLower(value) {
		case "false", "no", "off", "0", "n", "f", "nil":
			g.c.NoDNS = true
		}
	}
}

// kdcOf drops the protocol before a KDC. What speaks HTTPS is passed over.
func kdcOf(s string) (string, bool) {
	for _, proto := range []string{"tcp/", "udp/"} {
		s = strings.TrimPrefix(s, proto)
	}
	return s, s != "" && !strings.Contains(s, "://")
}

var includable = regexp.MustCompile(`^([A-Za-z0-9_-]+|[^.].*\.conf)$`)

func (c *Conf) include(word, path string, left *int) error {
	if word == "include" {
		return c.file(path, left)
	}
	list, err := os.ReadDir(path)
	if err != nil {
		return err
	}
	for _, e := range list {
		if includable.MatchString(e.Name()) {
			if err := c.file(filepath.Join(path, e.Name()), left); err != nil {
				return err
			}
		}
	}
	return nil
}

// realmOf returns the realm that a host is in by [domain_realm], or nothing.
func (c *Conf) realmOf(host string) string {
	host = strings.ToLower(host)
	if r := c.Domains[host]; r != "" {
		return r
	}
	for _, rest, ok := strings.Cut(host, "."); ok; _, rest, ok = strings.Cut(rest, ".") {
		if r := c.Domains["."+rest]; r != "" {
			return r
		}
	}
	return ""
}
