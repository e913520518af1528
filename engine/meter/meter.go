// Package meter counts what a process of runner does, and writes numbers in the
// text format of Prometheus (prometheus.io/docs/instrumenting/exposition_formats,
// version 0.0.4). It owns the counters and that format. It knows neither grants nor
// stores, opens no port, reads no clock, and takes labels from its callers, who give
// it words of their own vocabulary only: never a name of an account or a person.
package meter

import (
	"bufio"
	"cmp"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Meter holds what was counted. Its zero value is ready, a nil one counts nothing,
// and it is safe for concurrent use.
type Meter struct {
	mu       sync.Mutex
	counters map[series]float64
	spans    map[series]*span
}

// series is one line of numbers.
type series struct{ name, labels string }

// bounds are the upper ends of the buckets of durations, in seconds.
var bounds = [...]float64{0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300}

// span is durations that were observed.
type span struct {
	buckets [len(bounds) + 1]uint64
	sum     float64
}

// Add counts n more of name with labels: key, value, ...
func (m *Meter) Add(name string, n float64, labels ...string) {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.counters == nil {
		m.counters = map[series]float64{}
	}
	m.counters[series{name, join(labels)}] += n
}

// Set makes the gauge name with labels (key, value, ...) n.
func (m *Meter) Set(name string, n float64, labels ...string) {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.counters == nil {
		m.counters = map[series]float64{}
	}
	m.counters[series{name, join(labels)}] = n
}

// Observe notes a duration of name with labels: key, value, ...
func (m *Meter) Observe(name string, d time.Duration, labels ...string) {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.spans == nil {
		m.spans = map[series]*span{}
	}
	k := series{name, join(labels)}
	s := m.spans[k]
	if s == nil {
		s = &span{}
		m.spans[k] = s
	}
	i, _ := slices.BinarySearch(bounds[:], d.Seconds())
	s.buckets[i]++
	s.sum += d.Seconds()
}

// join writes labels as they stand between braces.
func join(labels []string) string {
	var b strings.Builder
	for i := 0; i+1 < len(labels); i += 2 {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(labels[i] + `="` + escape.Replace(labels[i+1]) + `"`)
	}
	return b.String()
}

var escape = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`)

// Family is what numbers of one name are.
type Family struct {
	Name string
	Type string // counter, gauge or histogram
	Help string
	// Values are those of a gauge that was read just now.
	Values []Value
}

// Value is a number with its labels: key, value, ...
type Value struct {
	N      float64
	Labels []string
}

// Write writes the families in their order, each with what was counted or what it
// brings along. A counter that nothing was counted for is 0.
func (m *Meter) Write(w io.Writer, families []Family) error {
	b := bufio.NewWriter(w)
	put := func(name, labels string, n float64) {
		_, _ = b.WriteString(name) // the error stays in b
		if labels != "" {
			_, _ = b.WriteString("{" + labels + "}")
		}
		_, _ = b.WriteString(" " + strconv.FormatFloat(n, 'g', -1, 64) + "\n")
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, f := range families {
		_, _ = b.WriteString("# HELP " + f.Name + " " + escape.Replace(f.Help) + "\n# TYPE " + f.Name + " " + f.Type + "\n")
		for _, v := range f.Values {
			put(f.Name, join(v.Labels), v.N)
		}
		switch f.Type {
		case "counter", "gauge":
			of := linesOf(m.counters, f.Name)
			for _, k := range of {
				put(k.name, k.labels, m.counters[k])
			}
			if f.Type == "counter" && len(of)+len(f.Values) == 0 {
				put(f.Name, "", 0)
			}
		case "histogram":
			for _, k := range linesOf(m.spans, f.Name) {
				m.spans[k].write(k, put)
			}
		}
	}
	return b.Flush()
}

func (s *span) write(k series, put func(name, labels string, n float64)) {
	with := k.labels
	if with != "" {
		with += ","
	}
	var n uint64
	for i, c := range s.buckets {
		n += c
		le := "+Inf"
		if i < len(bounds) {
			le = strconv.FormatFloat(bounds[i], 'g', -1, 64)
		}
		put(k.name+"_bucket", with+`le="`+le+`"`, float64(n))
	}
	put(k.name+"_sum", k.labels, s.sum)
	put(k.name+"_count", k.labels, float64(n))
}

// linesOf returns the lines of a name, sorted.
func linesOf[V any](in map[series]V, name string) []series {
	return slices.SortedFunc(func(yield func(series) bool) {
		for k := range maps.Keys(in) {
			if k.name == name && !yield(k) {
				return
			}
		}
	}, func(a, b series) int { return cmp.Compare(a.labels, b.labels) })
}
