package main

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// phases in the order they run; a contender may lack some.
var phases = []string{"create", "delete", "grant"}

// contender is a way to do the work.
type contender struct {
	Name   string              `json:"name"`
	Needs  []string            `json:"needs"`  // programs or files; absent: left out
	Folder string              `json:"folder"` // copied for this contender and expanded, its place is {folder}
	Env    []string            `json:"env"`
	Phases map[string][]string `json:"phases"`
	Many   map[string][]string `json:"many"` // the same on many devices at once

	folder string
}

// load reads the contenders and leaves out those that cannot run here.
func (b *bench) load(file, only string) ([]contender, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var all, usable []contender
	if err := json.Unmarshal(text, &all); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	for _, c := range all {
		if b.devices > 1 {
			c.Phases = c.Many
		}
		if len(c.Phases) == 0 {
			continue
		}
		for p := range c.Phases {
			if !slices.Contains(phases, p) {
				return nil, fmt.Errorf("%s: %s: phase %q is none of %v", file, c.Name, p, phases)
			}
		}
		if only != "" && !slices.Contains(strings.Split(only, ","), c.Name) {
			continue
		}
		if lacks := b.lacks(c); lacks != "" {
			fmt.Fprintf(b.out, "without %s: %s is not there\n", c.Name, lacks)
			continue
		}
		usable = append(usable, c)
	}
	if len(usable) == 0 {
		return nil, fmt.Errorf("%s: no contender can run", file)
	}
	return usable, nil
}

func (b *bench) lacks(c contender) string {
	for _, n := range c.Needs {
		if strings.Contains(n, "/") {
			if !filepath.IsAbs(n) {
				n = filepath.Join(b.root, n)
			}
			if found, err := filepath.Glob(n); err != nil || len(found) == 0 {
				return n
			}
		} else if _, err := exec.LookPath(n); err != nil {
			return n
		}
	}
	return ""
}

// prepare makes the contender's own copy of its folder with the values in place.
func (b *bench) prepare(c *contender, addr string) (err error) {
	if c.Folder == "" {
		return nil
	}
	from := filepath.Join(b.root, c.Folder)
	if c.folder, err = os.MkdirTemp(b.work, c.Name+"-"); err != nil {
		return err
	}
	v := b.values(*c, addr)
	defer func() { // runner's devices are a file of its workspace
		if inv := filepath.Join(c.folder, "inventories"); err == nil && b.devices > 1 && isDir(inv) {
			err = os.Rename(filepath.Join(b.fleet, "fleet.yaml"), filepath.Join(inv, "fleet.yaml"))
		}
	}()
	return filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		to := filepath.Join(c.folder, rel)
		if d.IsDir() {
			return os.MkdirAll(to, 0o700)
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(to, []byte(expand([]string{string(text)}, v)[0]), 0o600)
	})
}

// values is what {name} stands for. account and uid are new for every run.
func (b *bench) values(c contender, addr string) map[string]string {
	host, port, _ := strings.Cut(addr, ":")
	until := time.Now().UTC().Add(2 * time.Hour)
	m := b.machines[0]
	key, _ := os.ReadFile(m.KeyFile() + ".pub")
	hostKey := m.HostKey
	knownHosts := filepath.Join(b.work, "known_hosts-"+port)
	_ = os.WriteFile(knownHosts, []byte("["+host+"]:"+port+" "+hostKey+"\n"), 0o600)
	password := "Bench-pass-" + strconv.Itoa(b.uid)
	passwordFile := filepath.Join(b.work, "password")
	_ = os.WriteFile(passwordFile, []byte(password), 0o600)
	return map[string]string{
		"root": b.root, "work": b.work, "folder": c.folder,
		"addr": addr, "host": host, "port": port,
		"fleet": b.fleet,
		"key":   m.KeyFile(), "host_key": hostKey, "known_hosts": knownHosts,
		"account": "jit-" + c.Name[:1] + strconv.Itoa(b.uid), "uid": strconv.Itoa(b.uid),
		"pub": strings.TrimSpace(string(key)), "password": password, "password_file": passwordFile,
		"until": until.Format("20060102150405") + "Z", "until_rfc3339": until.Format(time.RFC3339),
		"last_day": strconv.FormatInt(until.Add(24*time.Hour).Unix(), 10),
	}
}

func expand(words []string, v map[string]string) []string {
	var pairs []string
	for k, s := range v {
		pairs = append(pairs, "{"+k+"}", s)
	}
	r := strings.NewReplacer(pairs...)
	out := make([]string, len(words))
	for i, w := range words {
		out[i] = r.Replace(w)
	}
	return out
}
