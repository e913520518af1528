package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// writeFleet names the machines in the words of each contender: devices.txt of the
// floor, fleet.yaml of runner, hosts.ini and known_hosts of ansible.
func (b *bench) writeFleet(addrs []string) error {
	b.fleet = filepath.Join(b.work, "fleet")
	if err := os.MkdirAll(b.fleet, 0o700); err != nil {
		return err
	}
	var floor, runner, hosts, known strings.Builder
	for i, addr := range addrs {
		m := b.machines[i]
		host, port, _ := strings.Cut(addr, ":")
		fmt.Fprintf(&floor, "%s %s %s\n", addr, m.KeyFile(), m.HostKey)
		fmt.Fprintf(&hosts, "d%d ansible_host=%s ansible_port=%s ansible_ssh_private_key_file=%s\n", i, host, port, m.KeyFile())
		fmt.Fprintf(&known, "[%s]:%s %s\n", host, port, m.HostKey)
		if i > 0 {
			runner.WriteString("---\n")
		}
		fmt.Fprintf(&runner, `schema: runner/v1
kind: device
name: fleet-%[1]d
address: %[2]q
port: %[3]s
inventory: Bench
host_keys: [%[4]q]
---
schema: runner/v1
kind: credential
name: fleet-%[1]d
device: fleet-%[1]d
authentication:
  user: root
  secret_from: {file: %[5]q, kind: private_key}
`, i, host, port, m.HostKey, m.KeyFile())
	}
	for name, text := range map[string]string{"devices.txt": floor.String(), "fleet.yaml": runner.String(), "hosts.ini": hosts.String(), "known_hosts": known.String()} {
		if err := os.WriteFile(filepath.Join(b.fleet, name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	return nil
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}
