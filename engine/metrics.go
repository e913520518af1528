package engine

import (
	"context"
	"maps"
	"slices"
	"time"

	"runner/engine/grant"
	"runner/engine/meter"
)

// Names of what is counted. cmd/runner/README.md tells what each is for.
const (
	metricExecutions  = "runner_executions_total"
	metricTook        = "runner_execution_seconds"
	metricDelay       = "runner_job_delay_seconds"
	metricReaped      = "runner_reaped_total"
	metricFenced      = "runner_fenced_total"
	metricStoreErrors = "runner_store_errors_total"
	metricMissed      = "runner_devices_missed_total"
	metricSlots       = "runner_slots"
)

// Metrics returns what is to be written of Meter, with what the store says now. No
// label has a name of a person, an account or a device.
func (e *Engine) Metrics(ctx context.Context) ([]meter.Family, error) {
	now := e.Now()
	tally, err := e.Store.Tally(ctx)
	if err != nil {
		return nil, err
	}
	overdue, total, err := e.Store.Overdue(ctx, now, 1)
	if err != nil {
		return nil, err
	}
	silent, err := e.Store.Silences(ctx)
	if err != nil {
		return nil, err
	}
	alarms, scans, err := e.scanValues(ctx)
	if err != nil {
		return nil, err
	}
	room, err := e.Store.Room(ctx)
	if err != nil {
		return nil, err
	}
	var longest time.Duration
	if len(overdue) > 0 {
		longest = overdue[0].Overdue(now)
	}
	one := func(n float64) []meter.Value { return []meter.Value{{N: n}} }
	return []meter.Family{
		{Name: "runner_jobs", Type: "gauge", Help: "Jobs that are not over.", Values: jobValues(tally)},
		{Name: "runner_removals_overdue", Type: "gauge", Help: "Removals that should have been done.", Values: one(float64(total))},
		{Name: "runner_removal_overdue_seconds", Type: "gauge", Help: "For how long the longest overdue removal should have been done.", Values: one(longest.Seconds())},
		{Name: "runner_removals_blocked", Type: "gauge", Help: "Removals that were tried, and something is in the way.", Values: one(float64(tally.Blocked))},
		{Name: "runner_devices_silent", Type: "gauge", Help: "Devices that did not answer when they were last asked, and get a pause.", Values: one(float64(len(silent)))},
		{Name: "runner_findings", Type: "gauge", Help: "Findings of the latest scans about which nothing was done.", Values: alarms},
		{Name: "runner_scans", Type: "gauge", Help: "Devices by how their latest scan went.", Values: scans},
		{Name: "runner_store_bytes", Type: "gauge", Help: "How much of the disk the store takes; what is free in its files is used again.", Values: roomValues(room)},
		{Name: metricSlots, Type: "gauge", Help: "Jobs that this process runs, in slots or beside them while their device does not answer, and slots in all."},
		{Name: metricExecutions, Type: "counter", Help: "Executions that this process ended."},
		{Name: metricTook, Type: "histogram", Help: "How long they took."},
		{Name: metricDelay, Type: "histogram", Help: "How long after they were due jobs were begun by this process."},
		{Name: metricReaped, Type: "counter", Help: "Jobs that this process took away from dead workers."},
		{Name: metricFenced, Type: "counter", Help: "Results of this process that did not count, because others had taken the job over."},
		{Name: metricMissed, Type: "counter", Help: "Attempts to reach a device that did not answer or did not let runner in."},
		{Name: metricStoreErrors, Type: "counter", Help: "Times that the store could not be read or written."},
	}, nil
}

func jobValues(t grant.Tally) []meter.Value {
	var vs []meter.Value
	for _, kind := range slices.Sorted(maps.Keys(t.Jobs)) {
		for _, state := range slices.Sorted(maps.Keys(t.Jobs[kind])) {
			vs = append(vs, meter.Value{N: float64(t.Jobs[kind][state]), Labels: []string{"kind", string(kind), "state", string(state)}})
		}
	}
	return vs
}

// scanValues are the findings of the latest scans by kind, and how these went.
func (e *Engine) scanValues(ctx context.Context) (found, went []meter.Value, err error) {
	all, err := e.Store.Scans(ctx, false)
	if err != nil {
		return nil, nil, err
	}
	n, _, err := e.Alarms(ctx)
	if err != nil {
		return nil, nil, err
	}
	failed := 0
	for i := range all {
		if all[i].Error != "" {
			failed++
		}
	}
	for _, what := range []string{FoundUnknown, FoundReturned, FoundChanged, FoundMissing, FoundStray, FoundUnmarked} {
		found = append(found, meter.Value{N: float64(n[what]), Labels: []string{"what", what}})
	}
	return found, []meter.Value{
		{N: float64(len(all) - failed), Labels: []string{"went", "ok"}},
		{N: float64(failed), Labels: []string{"went", "failed"}},
	}, nil
}

func roomValues(r grant.Room) []meter.Value {
	return []meter.Value{
		{N: float64(r.Grants - r.GrantsFree), Labels: []string{"of", "grants", "are", "used"}},
		{N: float64(r.GrantsFree), Labels: []string{"of", "grants", "are", "free"}},
		{N: float64(r.Logs - r.LogsFree), Labels: []string{"of", "logs", "are", "used"}},
		{N: float64(r.LogsFree), Labels: []string{"of", "logs", "are", "free"}},
	}
}

// measure counts an execution that has ended.
func (w *work) measure() {
	w.e.Meter.Add(metricExecutions, 1, "kind", string(w.exec.Kind), "outcome", w.exec.Outcome)
	w.e.Meter.Observe(metricTook, w.exec.Ended.Sub(w.exec.Started), "kind", string(w.exec.Kind))
}

// measure tells how many jobs run.
func (d *dispatcher) measure() {
	m := d.e.Meter
	m.Set(metricSlots, float64(d.shares.all), "are", "all")
	m.Set(metricSlots, float64(d.load.all), "are", "used")
	m.Set(metricSlots, float64(d.load.aside), "are", "aside")
}
