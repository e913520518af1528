package main

import (
	"context"
	"net"
	"path/filepath"
	"strconv"

	"runner/engine"
	"runner/engine/inventory"
	"runner/engine/transport/ssh"
	"runner/engine/transport/winrm"
)

// checkWindows goes all the way to a Windows device with one credential. Nothing
// that is open or was asked for before is used.
func (a *app) checkWindows(ctx context.Context, w *workspace, name string, cn *inventory.Connection) (*checkJSON, error) {
	reg, err := a.reg()
	if err != nil {
		return nil, err
	}
	own := &ssh.Dialer{}
	defer own.Close() //nolint:errcheck // nothing was written that could be lost
	dialer := &engine.WinRMDialer{
		WinRM: &winrm.Dialer{},
		SSH:   &engine.SSHDialer{SSH: own, KnownHosts: filepath.Join(w.state(), "known_hosts"), AgentSocket: a.env("SSH_AUTH_SOCK")},
	}
	defer dialer.Close() //nolint:errcheck // likewise
	v := &checkJSON{
		Device: cn.Device, Credential: name, User: cn.User, Address: net.JoinHostPort(cn.Address, strconv.Itoa(cn.Port)), OK: true, Stages: []stageJSON{},
	}
	stages, facts := dialer.Check(ctx, cn, reg)
	for _, s := range stages {
		v.OK = v.OK && s.Status != "failed"
		v.Stages = append(v.Stages, stageJSON{
			Stage: s.Name, Status: s.Status, MS: float64(s.Took.Microseconds()) / 1000, Detail: oneLine(s.Detail), Code: s.Code, Hint: oneLine(s.Hint),
		})
	}
	if facts != nil {
		factsText(facts) // takes out what is about the call
		v.Facts = facts
	}
	return v, nil
}
