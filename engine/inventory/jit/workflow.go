package jit

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	_ "time/tzdata" // names are known on machines without the files, too

	"runner/engine/lang"
)

// The tables of workflow, as `pam project import` of KeeperPAM reads it.
var (
	WorkflowTable = lang.Table{Name: "workflow", Doc: "What a grant has to wait for, in the words of KeeperPAM. It is checked and kept. What this runner cannot ask for yet it refuses to leave out: such a credential gives nothing", Keys: []lang.Key{ //nolint:gochecknoglobals // a table
		{Name: "approvals_needed", Is: lang.Whole(0, 100), Default: "0", Doc: "how many approvers have to agree", Example: "approvals_needed: 1\napprovers:\n  - principal: {type: user, email: ana@example.com}"},
		{Name: "checkout_needed", Is: anyFlag, Default: "false", Doc: "one person at a time", Example: "checkout_needed: true"},
		{Name: "start_access_on_approval", Is: anyFlag, Default: "false", Doc: "the time runs from the approval, not from the launch", Example: "start_access_on_approval: true"},
		{Name: "require_reason", Is: anyFlag, Default: "false", Doc: "no grant without a reason", Example: "require_reason: true"},
		{Name: "require_ticket", Is: anyFlag, Default: "false", Doc: "no grant without a ticket", Example: "require_ticket: true"},
		{Name: "require_mfa", Is: anyFlag, Default: "false", Doc: "no grant without a second factor", Example: "require_mfa: true"},
		{Name: "access_duration", Is: anySpan, Else: "1d", Doc: "the longest a grant may last: 30m, 8h or 2d", Example: "access_duration: 8h"},
		{Name: "allowed_times", Is: lang.MapBy("allowed_times"), Doc: "when grants may be", Example: "allowed_times: {allowed_days: [mon, tue]}"},
		{Name: "approvers", Is: lang.Each(lang.MapBy("approver")), Doc: "who may agree", Example: "approvals_needed: 1\napprovers:\n  - principal: {type: user, email: ana@example.com}"},
	}}
	timesTable = lang.Table{Name: "allowed_times", Doc: "When grants may be", Keys: []lang.Key{ //nolint:gochecknoglobals // a table
		{Name: "allowed_days", Is: lang.Each(anyWord(dayWords...)), Else: "every day", Doc: "days of the week", Example: "allowed_days: [mon, tue, wed, thu, fri]"},
		{Name: "time_ranges", Is: lang.Each(lang.MapBy("time_range")), Else: "the whole day", Doc: "times of a day", Example: "time_ranges: [{start: '09:00', end: '17:30'}]\ntimezone: Europe/Vienna"},
		{Name: "timezone", Is: lang.FixedText, Else: "required with time_ranges", Doc: "IANA name of the time zone", Example: "timezone: Europe/Vienna"},
	}}
	rangeTable = lang.Table{Name: "time_range", Doc: "A time of a day; one over midnight is written as two", Keys: []lang.Key{ //nolint:gochecknoglobals // a table
		{Name: "start", Is: lang.Shape{Kind: lang.TextShape, Pattern: clockPattern}, Need: true, Doc: "from when, as 09:00", Example: "start: '09:00'\nend: '17:30'"},
		{Name: "end", Is: lang.Shape{Kind: lang.TextShape, Pattern: clockPattern}, Need: true, Doc: "until when, later than start", Example: "start: '09:00'\nend: '17:30'"},
	}}
	approverTable = lang.Table{Name: "approver", Doc: "Who may agree", Keys: []lang.Key{ //nolint:gochecknoglobals // a table
		{Name: "principal", Is: lang.MapBy("principal"), Need: true, Doc: "the user or team", Example: "principal: {type: user, email: ana@example.com}"},
		{Name: "escalation", Is: anyFlag, Default: "false", Doc: "only asked when the others do not answer", Example: "principal: {type: user, email: ana@example.com}\nescalation: true"},
		{Name: "escalation_after", Is: anySpan, Doc: "needs escalation: how long the others have", Example: "principal: {type: user, email: ana@example.com}\nescalation: true\nescalation_after: 45m"},
	}}
	principalTable = lang.Table{Name: "principal", Doc: "A user or a team", Keys: []lang.Key{ //nolint:gochecknoglobals // a table
		{Name: "type", Is: anyWord("user", "team"), Need: true, Doc: "which of them", Example: "type: user\nemail: ana@example.com"},
		{Name: "email", Is: lang.FixedText, Else: "required for a user", Doc: "the user's address", Example: "type: user\nemail: ana@example.com"},
		{Name: "team_uid_base64url", Is: lang.FixedText, Else: "required for a team", Doc: "the team's uid", Example: "type: team\nteam_uid_base64url: kq1mGQ4bqFtRDz1pP0hYzA"},
	}}
)

// Tables describes the maps that this package reads.
func Tables() []*lang.Table {
	return []*lang.Table{&SettingsTable, &WorkflowTable, &timesTable, &rangeTable, &approverTable, &principalTable}
}

// anySpan is a duration in the words of KeeperPAM.
var anySpan = lang.Either(lang.Shape{Kind: lang.TextShape, Pattern: spanPattern}, lang.Whole(1, 365*24*60)) //nolint:gochecknoglobals // a table

const (
	spanPattern  = `^[1-9][0-9]*[mhd]?$`
	clockPattern = `^([01][0-9]|2[0-3]):[0-5][0-9]$`
	defaultSpan  = 24 * time.Hour
	longestSpan  = 365 * 24 * time.Hour
)

var (
	spans    = regexp.MustCompile(spanPattern)
	clocks   = regexp.MustCompile(clockPattern)
	emails   = regexp.MustCompile(`^[^@\s]+@[^@\s]+$`)
	base64s  = regexp.MustCompile(`^[A-Za-z0-9_-]+=*$`)
	dayWords = []string{"mon", "tue", "wed", "thu", "fri", "sat", "sun", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"} //nolint:gochecknoglobals // a table
)

// Workflow is what a grant has to wait for.
type Workflow struct {
	Approvals                       int64
	Checkout, OnApproval            bool
	NeedReason, NeedTicket, NeedMFA bool
	Duration                        time.Duration
	Days                            []string // mon to sun
	Ranges                          []Range
	Zone                            string
	Approvers                       []Approver
}

// Range is a time of a day: HH:MM.
type Range struct{ Start, End string }

// Approver is a user, by address, or a team, by uid.
type Approver struct {
	Email, Team string
	Escalation  bool
	After       time.Duration
}

// Unmet returns the keys of what this runner cannot ask for yet.
func (w *Workflow) Unmet() []string {
	var keys []string
	for _, k := range []struct {
		key string
		is  bool
	}{
		{"approvals_needed", w.Approvals > 0},
		{"checkout_needed", w.Checkout},
		{"require_ticket", w.NeedTicket},
		{"require_mfa", w.NeedMFA},
		{"allowed_times", len(w.Days)+len(w.Ranges) > 0},
	} {
		if k.is {
			keys = append(keys, k.key)
		}
	}
	return keys
}

// ReadWorkflow reads workflow; what is wrong is recorded with d.
func ReadWorkflow(d *lang.Decoder, n *lang.Node) *Workflow {
	f := d.Map(n, "workflow").By(&WorkflowTable, "")
	w := &Workflow{
		Approvals: f.Int("approvals_needed"), Checkout: flag(d, f.Take("checkout_needed"), "checkout_needed"),
		OnApproval: flag(d, f.Take("start_access_on_approval"), "start_access_on_approval"), NeedReason: flag(d, f.Take("require_reason"), "require_reason"),
		NeedTicket: flag(d, f.Take("require_ticket"), "require_ticket"), NeedMFA: flag(d, f.Take("require_mfa"), "require_mfa"),
		Duration: span(d, f.Take("access_duration"), "access_duration", defaultSpan),
	}
	if at := f.Take("allowed_times"); at != nil {
		w.times(d, at)
	}
	approvers := f.Items("approvers")
	for _, it := range approvers {
		w.approver(d, it)
	}
	f.End()
	if w.Approvals > int64(len(w.Approvers)) && len(w.Approvers) == len(approvers) {
		d.Add(f.Key("approvals_needed"), "wrong-value", "approvals_needed is %d, and there are %d approvers, so nobody would ever get in; name as many", w.Approvals, len(w.Approvers))
	}
	return w
}

// times reads allowed_times.
func (w *Workflow) times(d *lang.Decoder, n *lang.Node) {
	f := d.Map(n, "allowed_times").By(&timesTable, "")
	for _, it := range f.Items("allowed_days") {
		day := *it
		day.Text = strings.ToLower(strings.TrimSpace(it.Text))
		switch {
		case !slices.Contains(dayWords, day.Text):
			d.OneOf(it, "an entry of allowed_days", dayWords[:7])
		case slices.Contains(w.Days, day.Text[:3]):
			d.Add(it, "duplicate", "allowed_days has %q twice", day.Text[:3])
		default:
			w.Days = append(w.Days, day.Text[:3])
		}
	}
	ranges := f.Items("time_ranges")
	for _, it := range ranges {
		w.between(d, it)
	}
	w.Zone = f.String("timezone", "")
	if _, err := time.LoadLocation(w.Zone); err != nil || w.Zone == "Local" {
		d.Add(f.Take("timezone"), "wrong-value", "timezone %q is not known; write an IANA name such as Europe/Vienna or UTC", w.Zone)
	}
	if len(ranges) > 0 && f.Node.Get("timezone") == nil {
		d.Add(f.Key("time_ranges"), "missing-key", "time_ranges needs to know where; write timezone: Europe/Vienna")
	}
	f.End()
}

// between reads an entry of time_ranges.
func (w *Workflow) between(d *lang.Decoder, n *lang.Node) {
	f := d.Map(n, "an entry of time_ranges").By(&rangeTable, "")
	r := Range{clock(d, f.Need("start", "'09:00'"), "start"), clock(d, f.Need("end", "'17:30'"), "end")}
	f.End()
	switch {
	case r.Start == "" || r.End == "":
	case r.End <= r.Start:
		d.Add(f.Take("end"), "wrong-value", "end is %s, not later than start, which is %s; write a time over midnight as two: until 23:59, and from 00:00", r.End, r.Start)
	default:
		w.Ranges = append(w.Ranges, r)
	}
}

// approver reads an entry of approvers.
func (w *Workflow) approver(d *lang.Decoder, n *lang.Node) {
	f := d.Map(n, "an approver").By(&approverTable, "")
	a := Approver{Escalation: flag(d, f.Take("escalation"), "escalation"), After: span(d, f.Take("escalation_after"), "escalation_after", 0)}
	if after := f.Node.Get("escalation_after"); after != nil && !a.Escalation {
		d.Add(f.Key("escalation_after"), "no-effect", "escalation_after needs escalation: true")
	}
	p := f.Need("principal", "{type: user, email: ana@example.com}")
	f.End()
	if p == nil {
		return
	}
	pf := d.Map(p, "principal").By(&principalTable, "")
	typ, email, team := pf.Need("type", "user"), pf.String("email", ""), pf.String("team_uid_base64url", "")
	pf.End()
	if typ == nil {
		return
	}
	switch strings.ToLower(typ.Text) {
	case "user":
		a.Email = email
		if !emails.MatchString(email) {
			d.Add(pf.Key("email"), "wrong-value", "a principal of type user needs an address; write email: ana@example.com")
			return
		}
	case "team":
		a.Team = team
		if !base64s.MatchString(team) {
			d.Add(pf.Key("team_uid_base64url"), "wrong-value", "a principal of type team needs the uid of the team in base64url; write team_uid_base64url: UID")
			return
		}
	default:
		d.OneOf(typ, "type", []string{"user", "team"})
		return
	}
	w.Approvers = append(w.Approvers, a)
}

// clock reads a time of a day; nil is "".
func clock(d *lang.Decoder, n *lang.Node, key string) string {
	switch {
	case n == nil:
		return ""
	case n.Kind == lang.ScalarNode && clocks.MatchString(n.Text):
		return n.Text
	}
	d.Add(n, "wrong-value", "%s must be a time of a day such as '09:00', with 24 hours", key)
	return ""
}

// span reads a duration of minutes, hours or days.
func span(d *lang.Decoder, n *lang.Node, key string, def time.Duration) time.Duration {
	if n == nil {
		return def
	}
	text := strings.ToLower(strings.TrimSpace(n.Text))
	if n.Kind != lang.ScalarNode || !spans.MatchString(text) {
		d.Add(n, "wrong-value", "%s must be a duration such as 30m, 8h or 2d; a number alone is minutes", key)
		return def
	}
	unit := map[byte]time.Duration{'m': time.Minute, 'h': time.Hour, 'd': 24 * time.Hour}[text[len(text)-1]]
	if unit == 0 {
		unit, text = time.Minute, text+"m"
	}
	count, err := strconv.ParseInt(text[:len(text)-1], 10, 64)
	if err != nil || count > int64(longestSpan/unit) {
		d.Add(n, "out-of-range", "%s is %s; it must be at most 365d", key, n.Text)
		return def
	}
	return time.Duration(count) * unit
}
