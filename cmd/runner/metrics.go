package main

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"runner/engine"
	"runner/engine/meter"
)

const (
	// metricsKept is how long numbers of the store are told again before it is
	// asked anew, however often somebody asks.
	metricsKept = 5 * time.Second
	// metricsWithin bounds a question.
	metricsWithin = 10 * time.Second
)

// metrics answers GET /metrics.
type metrics struct {
	eng *engine.Engine
	log *slog.Logger

	mu   sync.Mutex
	at   time.Time
	kept []meter.Family
}

// serveMetrics listens where it is asked to, and answers until ctx ends. It returns
// the address, and what waits for its end.
func (a *app) serveMetrics(ctx context.Context, addr string, e *engine.Engine) (where string, wait func(), err error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return "", nil, usagef("--metrics is %q: write an address and a port such as 127.0.0.1:9464", addr)
	}
	if host == "" {
		host = "127.0.0.1"
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", net.JoinHostPort(host, port))
	if err != nil {
		return "", nil, usagef("--metrics %s: %s", addr, problem(err))
	}
	if at, err := netip.ParseAddrPort(l.Addr().String()); err != nil || !at.Addr().Unmap().IsLoopback() {
		a.warn("whoever reaches %s can read the metrics: there is no login", l.Addr())
	}
	m := &metrics{eng: e, log: a.log}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", m)
	srv := &http.Server{
		Handler: mux, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 5 * time.Second, WriteTimeout: 2 * metricsWithin, IdleTimeout: time.Minute,
		MaxHeaderBytes: 16 << 10, ErrorLog: slog.NewLogLogger(a.log.Handler(), slog.LevelDebug),
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			a.log.Error("metrics are not served any more", slog.Any("error", err))
		}
	}()
	stop := context.AfterFunc(ctx, func() { _ = srv.Close() })
	return l.Addr().String(), func() { stop(); _ = srv.Close(); <-done }, nil
}

// ServeHTTP writes the numbers.
func (m *metrics) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	families, err := m.families(r.Context())
	var b bytes.Buffer
	if err == nil {
		err = m.eng.Meter.Write(&b, families)
	}
	if err != nil {
		m.log.Error("cannot tell the metrics", slog.Any("error", err))
		http.Error(w, "the store cannot be read", http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	_, _ = w.Write(b.Bytes()) // whoever asked has gone
}

// families asks the store, at most every few seconds.
func (m *metrics) families(ctx context.Context) ([]meter.Family, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.kept != nil && time.Since(m.at) < metricsKept {
		return m.kept, nil
	}
	ctx, cancel := context.WithTimeout(ctx, metricsWithin)
	defer cancel()
	families, err := m.eng.Metrics(ctx)
	if err == nil {
		m.kept, m.at = families, time.Now()
	}
	return families, err
}
