package lab

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

var accountForm = regexp.MustCompile(`^[a-z_][a-z0-9_-]*$`) // at most 32

// Accounts of the host from this uid on are people, and stay outside.
const (
	firstPerson = 1000
	lastPerson  = 59999
)

// loginShells are tried as login shells, each as account "sh" + name.
var loginShells = []string{"dash", "bash", "ksh", "ksh93", "mksh", "zsh", "yash", "posh", "fish", "csh", "tcsh"}

// DefaultAccounts returns the accounts that every machine has:
//
//   - root: the admin key only
//   - jitadm: sudo without password
//   - jitpw: sudo asks for the password
//   - jittty: sudo without password, but only on a terminal
//   - plain: no sudo
//   - shdash, shbash, shksh, shmksh, shzsh, shyash, shfish, shtcsh, ...: that login
//     shell when it is installed, shash for busybox; sudo without password
func DefaultAccounts() []Account {
	as := []Account{
		{Name: "root"},
		{Name: "jitadm", Password: "Adm-pass 1", Sudo: SudoFree},
		{Name: "jitpw", Password: `pw-s3cret$"x`, Sudo: SudoPassword}, //nolint:gosec // of throw-away machines only
		{Name: "jittty", Password: "tty-pass-1", Sudo: SudoTTY},
		{Name: "plain", Password: "plain-pass-1"},
	}
	for _, name := range loginShells {
		if path, ok := find(name); ok {
			as = append(as, Account{Name: "sh" + name, Password: "sh-pass-1", Shell: path, Sudo: SudoFree})
		}
	}
	if _, ok := find("busybox"); ok {
		as = append(as, Account{Name: "shash", Password: "sh-pass-1", Shell: ashLink, Sudo: SudoFree})
	}
	return as
}

// ashLink is made inside the machine: busybox takes its applet from its name.
const ashLink = "/etc/lab/ash"

const sshdConfig = `Include /etc/ssh/sshd_config.d/*.conf
Port %d
ListenAddress %s
HostKey /etc/ssh/ssh_host_ed25519_key
UsePAM yes
PubkeyAuthentication yes
PasswordAuthentication yes
KbdInteractiveAuthentication yes
PermitRootLogin prohibit-password
TrustedUserCAKeys /etc/ssh/user_ca.pub
RevokedKeys /etc/ssh/revoked_keys
AllowTcpForwarding yes
MaxStartups 100:30:200
MaxSessions 50
UseDNS no
PrintMotd no
AcceptEnv LANG LC_*
Subsystem sftp internal-sftp
PidFile /run/sshd.pid
`

const sudoers = `Defaults env_reset
Defaults secure_path="` + binPath + `"
root ALL=(ALL:ALL) ALL
%sudo ALL=(ALL:ALL) ALL
@includedir /etc/sudoers.d
`

// writeStage writes Dir/stage: what is copied over the machine's /etc, the lists
// of homes and passwords, and the two scripts.
func (m *Machine) writeStage(cfg Config) error {
	m.Accounts = append(DefaultAccounts(), cfg.Accounts...)
	b := &stage{dir: filepath.Join(m.Dir, "stage")}
	if err := os.RemoveAll(b.dir); err != nil {
		return err
	}
	b.put("machine.sh", machineScript)
	b.put("second.sh", secondScript)
	b.copy("home/authorized_keys", filepath.Join(m.Dir, "id_ed25519.pub"))
	b.copy("etc/ssh/ssh_host_ed25519_key", filepath.Join(m.Dir, "host_key"))
	b.copy("etc/ssh/ssh_host_ed25519_key.pub", filepath.Join(m.Dir, "host_key.pub"))
	b.copy("etc/ssh/user_ca.pub", filepath.Join(m.Dir, "user_ca.pub"))
	b.put("etc/ssh/revoked_keys", "") // without the file sshd refuses every key
	b.put("etc/ssh/sshd_config", fmt.Sprintf(sshdConfig, m.Port, m.Host))
	b.put("etc/hostname", m.Name+"\n")
	b.put("etc/hosts", fmt.Sprintf("127.0.0.1\tlocalhost\n::1\tlocalhost\n127.0.1.1\t%s\n", m.Name))
	b.put("etc/resolv.conf", "")
	b.put("etc/sudoers", sudoers)
	b.accounts(m.Accounts)
	return b.err
}

// stage collects files below dir; the first error stays.
type stage struct {
	dir string
	err error
}

func (b *stage) put(name, text string) {
	if b.err != nil {
		return
	}
	p := filepath.Join(b.dir, name)
	if b.err = os.MkdirAll(filepath.Dir(p), 0o755); b.err != nil { //nolint:gosec // becomes /etc
		return
	}
	b.err = os.WriteFile(p, []byte(text), 0o644) //nolint:gosec // becomes /etc; Dir itself is private
}

func (b *stage) copy(name, from string) {
	text, err := os.ReadFile(from)
	if b.err = errors.Join(b.err, err); b.err == nil {
		b.put(name, string(text))
	}
}

// accounts writes passwd, group and shadow: the host's system accounts without
// their passwords, then ours from uid 1000 on.
func (b *stage) accounts(as []Account) {
	passwd, people := b.system("passwd")
	group, _ := b.system("group")
	shadow := b.database("shadow", people)
	gshadow := b.database("gshadow", people)
	var users, passwords, rules, shells strings.Builder
	uid := firstPerson
	for _, a := range as {
		if a.Name == "root" {
			fmt.Fprintln(&users, "root:0:0:/root")
			continue
		}
		if slices.ContainsFunc(passwd, func(l string) bool { return strings.HasPrefix(l, a.Name+":") }) {
			b.err = errors.Join(b.err, fmt.Errorf("account %s exists already", a.Name))
			return
		}
		shell := a.Shell
		if shell == "" {
			shell = "/bin/sh"
			if _, ok := find("bash"); ok {
				shell = "/bin/bash"
			}
		}
		home := "/home/" + a.Name
		passwd = append(passwd, fmt.Sprintf("%s:x:%d:%d::%s:%s", a.Name, uid, uid, home, shell))
		group = append(group, fmt.Sprintf("%s:x:%d:", a.Name, uid))
		shadow = append(shadow, a.Name+":!:20000:0:99999:7:::")
		gshadow = append(gshadow, a.Name+":!::")
		fmt.Fprintf(&users, "%s:%d:%d:%s\n", a.Name, uid, uid, home)
		fmt.Fprintln(&shells, shell)
		if a.Password != "" {
			fmt.Fprintf(&passwords, "%s:%s\n", a.Name, a.Password)
		}
		rules.WriteString(rule(a))
		uid++
	}
	if !slices.ContainsFunc(group, func(l string) bool { return strings.HasPrefix(l, "sudo:") }) {
		group = append(group, "sudo:x:27:")
	}
	b.put("etc/passwd", strings.Join(passwd, "\n")+"\n")
	b.put("etc/group", strings.Join(group, "\n")+"\n")
	b.put("etc/shadow", strings.Join(shadow, "\n")+"\n")
	b.put("etc/gshadow", strings.Join(gshadow, "\n")+"\n")
	b.put("etc/shells", "/bin/sh\n"+shells.String())
	b.put("etc/subuid", "")
	b.put("etc/subgid", "")
	b.put("etc/sudoers.d/lab", rules.String())
	b.put("users", users.String())
	b.put("passwords", passwords.String())
	if path, ok := find("busybox"); ok && b.err == nil {
		b.err = os.MkdirAll(filepath.Join(b.dir, "etc/lab"), 0o755) //nolint:gosec // becomes /etc/lab
		b.err = errors.Join(b.err, os.Symlink(path, filepath.Join(b.dir, ashLink)))
	}
}

func rule(a Account) string {
	switch a.Sudo {
	case SudoNone:
		return ""
	case SudoPassword:
		return a.Name + " ALL=(ALL:ALL) ALL\n"
	case SudoTTY:
		return "Defaults:" + a.Name + " requiretty\n" + a.Name + " ALL=(ALL:ALL) NOPASSWD: ALL\n"
	case SudoFree:
	}
	return a.Name + " ALL=(ALL:ALL) NOPASSWD: ALL\n"
}

// system returns the lines of /etc/passwd or /etc/group that belong to the system
// and the names of those that do not.
func (b *stage) system(file string) (lines []string, people map[string]bool) {
	people = map[string]bool{}
	for _, l := range b.lines(file) {
		f := strings.Split(l, ":")
		if len(f) < 3 {
			continue
		}
		if id, err := strconv.Atoi(f[2]); err == nil && id >= firstPerson && id <= lastPerson {
			people[f[0]] = true
			continue
		}
		if file == "group" {
			f[len(f)-1] = "" // members: people of the host
			l = strings.Join(f, ":")
		}
		lines = append(lines, l)
	}
	return lines, people
}

// database returns the lines of /etc/shadow or /etc/gshadow without people,
// members and passwords.
func (b *stage) database(file string, people map[string]bool) (lines []string) {
	for _, l := range b.lines(file) {
		f := strings.Split(l, ":")
		if len(f) < 4 || people[f[0]] {
			continue
		}
		f[1] = "*"
		if file == "gshadow" {
			f[2], f[3] = "", ""
		}
		lines = append(lines, strings.Join(f, ":"))
	}
	return lines
}

func (b *stage) lines(file string) (lines []string) {
	f, err := os.Open(filepath.Join("/etc", file))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if b.err = errors.Join(b.err, err); err != nil {
		return nil
	}
	defer f.Close()
	s := bufio.NewScanner(f)
	for s.Scan() {
		if l := s.Text(); l != "" && !strings.HasPrefix(l, "#") {
			lines = append(lines, l)
		}
	}
	b.err = errors.Join(b.err, s.Err())
	return lines
}

// systemDirs are the folders of / that make a Linux system; every other one is the
// host's own affair and empty inside.
var systemDirs = []string{"bin", "sbin", "lib", "lib32", "lib64", "libx32", "usr", "etc", "var", "opt"}

// hostLayout returns the folders of the host to hide and the mount points below /
// that need an overlay of their own, parents first.
func hostLayout(extra []string) (hide, mounts []string, err error) {
	ours := append([]string{"home", "root", "run", "tmp", "dev", "proc", "sys"}, systemDirs...)
	top, err := os.ReadDir("/")
	if err != nil {
		return nil, nil, err
	}
	for _, e := range top {
		if e.IsDir() && !slices.Contains(ours, e.Name()) {
			hide = append(hide, "/"+e.Name())
		}
	}
	for _, d := range extra {
		hide = append(hide, filepath.Clean(d))
	}
	info, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, nil, err
	}
	for l := range strings.Lines(string(info)) {
		f := strings.Fields(l) // proc(5): the fifth field is the mount point
		if len(f) < 5 || strings.Contains(f[4], `\`) || slices.Contains(mounts, f[4]) {
			continue
		}
		first, _, _ := strings.Cut(strings.TrimPrefix(f[4], "/"), "/")
		if f[4] != "/" && f[4] != "/var/tmp" && slices.Contains(systemDirs, first) {
			mounts = append(mounts, f[4])
		}
	}
	slices.Sort(mounts)
	return hide, mounts, nil
}
