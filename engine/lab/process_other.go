//go:build !linux

package lab

import (
	"context"
	"errors"
	"os/exec"
)

var errLinux = errors.New("lab: a machine needs Linux")

type process struct {
	Pid   int    `json:"pid"`
	Start uint64 `json:"start"`
	Boot  string `json:"boot"`
}

func (process) alive() bool { return false }
func (process) kill() error { return nil }

func spawn(*exec.Cmd, bool) (process, chan struct{}, error) { return process{}, nil, errLinux }

func killGroup(*exec.Cmd) {}

func privileged() bool { return false }

// Attach runs a program inside the machine.
func (m *Machine) Attach(context.Context, Session) (int, error) { return 0, errLinux }
