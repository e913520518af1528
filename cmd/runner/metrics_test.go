package main

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"runner/engine"
	"runner/engine/grant"
	"runner/engine/meter"
	"runner/engine/store"
)

func TestMetricsTellWhatIsOverdueAndNoNames(t *testing.T) {
	t.Parallel()
	now := time.Now()
	s := store.NewMemory()
	for _, device := range []string{"canary-device", "other"} {
		g := grant.Grant{
			ID: "g-" + device, Requester: "canary-" + device, Credential: "canary-credential", Device: device, Account: "canary-account", Creates: true,
		}
		c := grant.New(g, "j-c-"+device, "j-d-"+device, now.Add(-time.Hour))
		c.Grant.State, c.Grant.Expires = grant.Active, now.Add(-time.Minute)
		c.Jobs[0].State, c.Jobs[1].Due = grant.Done, now.Add(-time.Minute)
		if err := s.Create(t.Context(), c, nil); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Missed(t.Context(), "canary-device", "canary-why", now, 0); err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	a := &app{log: log}
	e := &engine.Engine{Store: s, Now: time.Now, Log: log, Meter: &meter.Meter{}}
	where, wait, err := a.serveMetrics(t.Context(), ":0", e)
	if err != nil {
		t.Fatal(err)
	}
	defer wait()
	if !strings.HasPrefix(where, "127.0.0.1:") {
		t.Errorf("without a host it listens at %s", where)
	}
	get := func(method, path string) (int, string) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		r, err := http.NewRequestWithContext(ctx, method, "http://"+where+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		res, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		text, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return res.StatusCode, string(text)
	}
	code, text := get(http.MethodGet, "/metrics")
	if code != http.StatusOK {
		t.Fatalf("%d %s", code, text)
	}
	for _, line := range []string{
		`runner_jobs{kind="delete",state="waiting"} 2`, "runner_removals_overdue 2", "runner_removal_overdue_seconds 6", "runner_devices_silent 1",
		"runner_removals_blocked 0", "runner_fenced_total 0",
	} {
		if !strings.Contains(text, "\n"+line) {
			t.Errorf("there is no line %q in\n%s", line, text)
		}
	}
	if strings.Contains(text, "canary") {
		t.Errorf("names are told:\n%s", text)
	}
	families, err := e.Metrics(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if !strings.Contains(readme(t), "`"+f.Name) {
			t.Errorf("README.md does not tell of %s", f.Name)
		}
	}
	for _, wrong := range [][2]string{{http.MethodPost, "/metrics"}, {http.MethodGet, "/"}, {http.MethodGet, "/metrics/x"}} {
		if code, _ := get(wrong[0], wrong[1]); code < 400 {
			t.Errorf("%v is answered with %d", wrong, code)
		}
	}
}
