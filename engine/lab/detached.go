package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// stateFile in a machine's folder says how to reach and to end a detached machine.
const stateFile = "machine.json"

type state struct {
	Name     string    `json:"name"`
	Port     int       `json:"port"`
	HostKey  string    `json:"host_key"`
	Process  process   `json:"process"`
	Accounts []Account `json:"accounts"`
}

// Up starts a machine that goes on after this process has ended, with everything
// about it in dir, which is made when absent. [Down] ends it. A machine that runs in
// dir already is an error.
func Up(ctx context.Context, cfg Config, dir string) (*Machine, error) {
	if m, err := Load(dir); err == nil {
		return nil, fmt.Errorf("lab: up %s: %s runs there already as process %d", dir, m.Name, m.Pid())
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("lab: up %s: %w", dir, err)
	}
	cfg.Dir = dir
	m, err := start(ctx, cfg, true)
	if err != nil {
		return nil, fmt.Errorf("lab: up %s: %w", dir, err)
	}
	b, err := json.MarshalIndent(state{m.Name, m.Port, m.HostKey, m.proc, m.Accounts}, "", "  ")
	if err == nil {
		err = os.WriteFile(filepath.Join(m.Dir, stateFile), append(b, '\n'), 0o600)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lab: up %s: %w", dir, err), m.Stop())
	}
	return m, nil
}

// Load returns the machine that [Up] started in dir, [ErrNotRunning] when it has
// ended, and an error that is [os.ErrNotExist] when there never was one.
func Load(dir string) (*Machine, error) {
	m, err := load(dir)
	if err != nil {
		return nil, err
	}
	if !m.proc.alive() {
		return nil, ErrNotRunning
	}
	return m, nil
}

func load(dir string) (*Machine, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("lab: load: %w", err)
	}
	b, err := os.ReadFile(filepath.Join(dir, stateFile))
	if err != nil {
		return nil, fmt.Errorf("lab: load: %w", err)
	}
	var s state
	if err := json.Unmarshal(b, &s); err != nil {
		return nil, fmt.Errorf("lab: load %s: %w", dir, err)
	}
	return &Machine{
		Name: s.Name, Host: "127.0.0.1", Port: s.Port, Addr: fmt.Sprintf("127.0.0.1:%d", s.Port),
		HostKey: s.HostKey, Dir: dir, Accounts: s.Accounts, proc: s.Process, detached: true,
	}, nil
}

// Down ends the machine that [Up] started in dir and returns when it is gone. It ends
// the recorded process only, never a later one with the same number. No machine
// there is no error. Keys and log stay in dir.
func Down(ctx context.Context, dir string) error {
	m, err := load(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return m.Stop()
}
