package clixml

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

const (
	ticksPerSecond = 10_000_000
	ticksPerDay    = 86400 * ticksPerSecond
)

const (
	zoned    = "2006-01-02T15:04:05.0000000Z07:00"
	unzoned  = "2006-01-02T15:04:05.0000000"
	readTime = "2006-01-02T15:04:05.999999999"
)

// parseTime reads an xs:dateTime with or without a zone.
func parseTime(s string) (any, error) {
	if t, err := time.Parse(readTime+"Z07:00", s); err == nil {
		if _, off := t.Zone(); off == 0 {
			t = t.UTC()
		}
		return t, nil
	}
	t, err := time.Parse(readTime, s)
	if err != nil {
		return nil, errors.New("not a DateTime")
	}
	return LocalTime{t.UTC()}, nil
}

// formatSpan writes an xs:duration in days and less.
func formatSpan(t TimeSpan) string {
	if t == 0 {
		return "PT0S"
	}
	n, sign := uint64(t), "" //nolint:gosec // wraps, and the sign is taken care of
	if t < 0 {
		n, sign = -n, "-"
	}
	var b strings.Builder
	b.WriteString(sign + "P")
	if d := n / ticksPerDay; d > 0 {
		fmt.Fprintf(&b, "%dD", d)
	}
	if n %= ticksPerDay; n == 0 {
		return b.String()
	}
	b.WriteString("T")
	s := n / ticksPerSecond
	for _, part := range []struct {
		n    uint64
		unit string
	}{{s / 3600, "H"}, {s / 60 % 60, "M"}} {
		if part.n > 0 {
			fmt.Fprintf(&b, "%d%s", part.n, part.unit)
		}
	}
	if frac := n % ticksPerSecond; frac > 0 {
		fmt.Fprintf(&b, "%d.%sS", s%60, strings.TrimRight(fmt.Sprintf("%07d", frac), "0"))
	} else if s%60 > 0 {
		fmt.Fprintf(&b, "%dS", s%60)
	}
	return b.String()
}

var errSpan = errors.New("not a TimeSpan")

// parseSpan reads an xs:duration without years and months.
func parseSpan(s string) (TimeSpan, error) {
	rest, neg := strings.CutPrefix(s, "-")
	rest, ok := strings.CutPrefix(rest, "P")
	if !ok || rest == "" {
		return 0, errSpan
	}
	days, clock, _ := strings.Cut(rest, "T")
	total, err := addUnits(0, days, "D", map[byte]uint64{'D': ticksPerDay})
	if err != nil {
		return 0, err
	}
	if total, err = addUnits(total, clock, "HMS", map[byte]uint64{'H': 3600 * ticksPerSecond, 'M': 60 * ticksPerSecond, 'S': ticksPerSecond}); err != nil {
		return 0, err
	}
	limit := uint64(1) << 63
	switch {
	case neg && total <= limit:
		return TimeSpan(-total), nil //nolint:gosec // wraps to the smallest value exactly at the limit
	case !neg && total < limit:
		return TimeSpan(total), nil //nolint:gosec // checked
	}
	return 0, errSpan
}

// addUnits adds the numbers of s, whose units come in the given order.
func addUnits(total uint64, s, order string, ticks map[byte]uint64) (uint64, error) {
	for s != "" {
		i := strings.IndexAny(s, order)
		if i < 1 {
			return 0, errSpan
		}
		whole, frac, dotted := strings.Cut(s[:i], ".")
		n, err := strconv.ParseUint(whole, 10, 64)
		unit := ticks[s[i]]
		if err != nil || n > (1<<63)/unit || dotted && (s[i] != 'S' || frac == "" || strings.Trim(frac, "0123456789") != "") {
			return 0, errSpan
		}
		total += n * unit
		if dotted {
			f, _ := strconv.ParseUint((frac + "0000000")[:7], 10, 64)
			total += f
		}
		if total > 1<<63 {
			return 0, errSpan
		}
		order = order[strings.IndexByte(order, s[i])+1:]
		s = s[i+1:]
	}
	return total, nil
}
