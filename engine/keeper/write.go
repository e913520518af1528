package keeper

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode"

	"runner/engine/inventory/jit"
	"runner/engine/lang"
)

// Names of documents, and of files made of them.
const maxName = 60

// runs are several dots and hyphens together.
var runs = regexp.MustCompile(`[-.]{2,}`)

// slug makes a name of what somebody called a thing: never a path.
func slug(title, otherwise string) string {
	var b strings.Builder
	for _, r := range strings.ToLower(title) {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9', r == '.', r == '_':
			b.WriteRune(r)
		case b.Len() > 0 && !strings.HasSuffix(b.String(), "-"):
			b.WriteByte('-')
		}
		if b.Len() >= maxName {
			break
		}
	}
	s := strings.Trim(runs.ReplaceAllString(b.String(), "-"), "-._")
	if s == "" {
		return otherwise
	}
	return s
}

// names gives out names, each once.
type names struct{ given map[string]int }

// pick returns the name, or the first of name-2, name-3 that is free.
func (n *names) pick(kind, name string) string {
	for {
		key := kind + "/" + name
		n.given[key]++
		if n.given[key] == 1 {
			return name
		}
		name += "-" + strconv.Itoa(n.given[key])
	}
}

// page is YAML that is being written. Texts are always in quotes and ASCII.
type page struct{ b strings.Builder }

func (p *page) line(indent int, format string, args ...any) {
	p.b.WriteString(strings.Repeat("  ", indent))
	fmt.Fprintf(&p.b, format, args...)
	p.b.WriteByte('\n')
}

// text writes a key with a text, unless that is empty.
func (p *page) text(indent int, key, value string) {
	if value != "" {
		p.line(indent, "%s: %s", key, strconv.QuoteToASCII(value))
	}
}

// flag writes a key that is true.
func (p *page) flag(indent int, key string, is bool) {
	if is {
		p.line(indent, "%s: true", key)
	}
}

func (p *page) begin(kind, name, about string) {
	p.line(0, "---")
	if about != "" {
		p.line(0, "# %s", comment(about))
	}
	p.line(0, "schema: runner/v1")
	p.line(0, "kind: %s", kind)
	p.line(0, "name: %s", strconv.QuoteToASCII(name))
}

// comment makes a text of one line that cannot leave its comment.
func comment(s string) string {
	s = strings.Map(func(r rune) rune {
		if !unicode.IsGraphic(r) || r == '\ufeff' || unicode.Is(unicode.Zl, r) || unicode.Is(unicode.Zp, r) {
			return ' '
		}
		return r
	}, s)
	if r := []rune(s); len(r) > 100 {
		s = string(r[:100]) + "…"
	}
	return s
}

// settings writes jit_settings; other are the keys that are kept.
func (p *page) settings(s jit.Settings, other []lang.Entry) {
	p.line(0, "jit_settings:")
	p.line(1, "create_ephemeral: %v", s.CreateEphemeral)
	p.text(1, "ephemeral_account_type", s.AccountType)
	p.text(1, "base_distinguished_name", s.BaseDN)
	p.text(1, "pam_directory_uid_ref", s.Directory)
	p.line(1, "elevate: %v", s.Elevate)
	p.text(1, "elevation_method", s.Method)
	p.text(1, "elevation_string", s.Elevation)
	for _, e := range other {
		p.line(1, "%s: %s", strconv.QuoteToASCII(e.Key.Text), flow(e.Value))
	}
}

// flow writes a value on one line.
func flow(n *lang.Node) string {
	var parts []string
	switch n.Kind {
	case lang.MapNode:
		for _, e := range n.Entries {
			parts = append(parts, strconv.QuoteToASCII(e.Key.Text)+": "+flow(e.Value))
		}
		return "{" + strings.Join(parts, ", ") + "}"
	case lang.ListNode:
		for _, it := range n.Items {
			parts = append(parts, flow(it))
		}
		return "[" + strings.Join(parts, ", ") + "]"
	case lang.NullNode:
		return "null"
	case lang.ScalarNode:
	}
	if n.Quoted {
		return strconv.QuoteToASCII(n.Text)
	}
	return n.Text
}

// workflow writes what grants have to wait for.
func (p *page) workflow(w *jit.Workflow) {
	p.line(0, "workflow:")
	if w.Approvals > 0 {
		p.line(1, "approvals_needed: %d", w.Approvals)
	}
	p.flag(1, "checkout_needed", w.Checkout)
	p.flag(1, "start_access_on_approval", w.OnApproval)
	p.flag(1, "require_reason", w.NeedReason)
	p.flag(1, "require_ticket", w.NeedTicket)
	p.flag(1, "require_mfa", w.NeedMFA)
	p.line(1, "access_duration: %s", minutes(w.Duration))
	if len(w.Days)+len(w.Ranges) > 0 || w.Zone != "" {
		p.line(1, "allowed_times:")
		if len(w.Days) > 0 {
			p.line(2, "allowed_days: [%s]", strings.Join(w.Days, ", "))
		}
		if len(w.Ranges) > 0 {
			p.line(2, "time_ranges:")
		}
		for _, r := range w.Ranges {
			p.line(3, "- {start: %q, end: %q}", r.Start, r.End)
		}
		p.text(2, "timezone", w.Zone)
	}
	if len(w.Approvers) > 0 {
		p.line(1, "approvers:")
	}
	for _, a := range w.Approvers {
		who := "{type: user, email: " + strconv.QuoteToASCII(a.Email) + "}"
		if a.Team != "" {
			who = "{type: team, team_uid_base64url: " + strconv.QuoteToASCII(a.Team) + "}"
		}
		p.line(2, "- principal: %s", who)
		p.flag(3, "escalation", a.Escalation)
		if a.After > 0 {
			p.line(3, "escalation_after: %s", minutes(a.After))
		}
	}
}

func minutes(d time.Duration) string {
	if d%time.Hour == 0 {
		return fmt.Sprintf("%dh", d/time.Hour)
	}
	return fmt.Sprintf("%dm", d/time.Minute)
}

// perFile is about how many keys and values a file gets, well below what a file
// may have.
const perFile = 8000

// pages cuts documents into files.
func pages(head string, documents []string) []string {
	var out []string
	weight := perFile
	for _, d := range documents {
		w := strings.Count(d, "\n") + strings.Count(d, ",") + strings.Count(d, ": ")
		if weight+w > perFile {
			out, weight = append(out, head+strings.TrimPrefix(d, "---\n")), w
			continue
		}
		out[len(out)-1] += d
		weight += w
	}
	return out
}
