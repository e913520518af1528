package lab_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"runner/engine/lab"
	"runner/engine/lab/labtest"
)

// login opens a session as user and runs command; how it authenticates is the
// caller's. The host key must be the machine's.
func login(m *lab.Machine, user, command string, auth ...ssh.AuthMethod) (string, error) {
	key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(m.HostKey))
	if err != nil {
		return "", err
	}
	c, err := ssh.Dial("tcp", m.Addr, &ssh.ClientConfig{
		User: user, Auth: auth, HostKeyCallback: ssh.FixedHostKey(key), Timeout: 10 * time.Second,
	})
	if err != nil {
		return "", err
	}
	defer c.Close()
	s, err := c.NewSession()
	if err != nil {
		return "", err
	}
	defer s.Close()
	out, err := s.Output(command)
	return string(out), err
}

func adminKey(tb testing.TB, m *lab.Machine) ssh.Signer {
	tb.Helper()
	pem, err := os.ReadFile(m.KeyFile())
	if err != nil {
		tb.Fatal(err)
	}
	signer, err := ssh.ParsePrivateKey(pem)
	if err != nil {
		tb.Fatal(err)
	}
	return signer
}

// sh runs a script inside and fails the test when it fails.
func sh(tb testing.TB, m *lab.Machine, script string) string {
	tb.Helper()
	out, err := m.Shell(tb.Context(), "set -e\n"+script)
	if err != nil {
		tb.Fatal(err)
	}
	return strings.TrimSpace(out)
}

// remains lists processes and mounts of the host that name the machine's folder.
func remains(tb testing.TB, dir string) (found []string) {
	tb.Helper()
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		tb.Fatal(err)
	}
	if strings.Contains(string(mounts), dir) {
		found = append(found, "a mount of the host")
	}
	procs, err := filepath.Glob("/proc/[0-9]*/mountinfo")
	if err != nil {
		tb.Fatal(err)
	}
	for _, p := range procs {
		// A process may end while we look; a zombie has no mounts any more.
		if b, err := os.ReadFile(p); err == nil && strings.Contains(string(b), dir) {
			found = append(found, p)
		}
	}
	return found
}

func TestNothingWrittenInsideReachesTheHost(t *testing.T) {
	t.Parallel()
	m := labtest.StartT(t, lab.Config{})
	name := "labguest" + strconv.Itoa(m.Port)
	sh(t, m, `useradd -m `+name+`; echo `+name+`:x-1y2z | chpasswd; su - `+name+` -c 'touch ~/mine; test "$(id -un)" = `+name+`'
for d in /etc /home /root /tmp /var/tmp /run /dev/shm /usr/lib /opt; do touch $d/`+name+`; done`)
	passwd, err := os.ReadFile("/etc/passwd")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(passwd), name) {
		t.Error("the account is in the host's passwd")
	}
	for _, dir := range []string{"/etc", "/home", "/root", "/tmp", "/var/tmp", "/run", "/dev/shm", "/usr/lib", "/opt"} {
		if _, err := os.Lstat(filepath.Join(dir, name)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s/%s on the host: %v, want no such file", dir, name, err)
		}
	}
	sh(t, m, "userdel -r "+name+"; ! test -e /home/"+name+"; ! getent passwd "+name)
}

func TestTheHostsOwnFilesAndPeopleAreNotInside(t *testing.T) {
	t.Parallel()
	hidden := t.TempDir() // below /tmp, which is private anyway
	m := labtest.StartT(t, lab.Config{Name: "clean-1", Hide: []string{"/opt", hidden}})
	if got := sh(t, m, `hostname`); got != "clean-1" {
		t.Errorf("hostname %q", got)
	}
	if got := sh(t, m, `ls -A /root /mnt /media /srv /opt /tmp | grep -v ':$' | grep . || :`); got != ".ssh" {
		t.Errorf("host folders show inside: %q", got)
	}
	if got := sh(t, m, `ls /etc/sudoers.d; ls /etc/ssh | grep host_; cat /etc/resolv.conf`); got != "lab\nssh_host_ed25519_key\nssh_host_ed25519_key.pub" {
		t.Errorf("/etc holds %q", got)
	}
	if got := sh(t, m, `cut -d: -f2 /etc/shadow | grep -v '^[*!]' | grep -vc '^\$' || :`); got != "0" {
		t.Errorf("%s shadow entries are neither locked nor a hash", got)
	}
	want := 0
	for _, a := range m.Accounts {
		if a.Password != "" {
			want++
		}
	}
	if got := sh(t, m, `cut -d: -f2 /etc/shadow | grep -c '^\$'`); got != strconv.Itoa(want) {
		t.Errorf("%s accounts have a password, want our %d", got, want)
	}
	if got := sh(t, m, `sudo -n true 2>&1; sudo -u plain id -un 2>&1`); got != "plain" {
		t.Errorf("sudo complains: %q", got)
	}
	if got := sh(t, m, `ps -e -o pid= | head -1; test -r /proc/self/fd; test -c /dev/ptmx; echo >/dev/null; visudo -c >/dev/null`); got != "1" {
		t.Errorf("first process is %q", got)
	}
	if got := sh(t, m, `awk '$5 ~ /host|`+`\/mnt\/.`+`/' /proc/self/mountinfo`); got != "" {
		t.Errorf("mounts of the host are reachable: %s", got)
	}
}

func TestEveryAccountAcceptsTheAdminKey(t *testing.T) {
	t.Parallel()
	m := labtest.StartT(t, lab.Config{Accounts: []lab.Account{{Name: "extra", Shell: "/bin/sh", Sudo: lab.SudoFree}}})
	key := ssh.PublicKeys(adminKey(t, m))
	for _, a := range m.Accounts {
		out, err := login(m, a.Name, "id -un", key)
		if err != nil || strings.TrimSpace(out) != a.Name {
			t.Errorf("%s: %q, %v", a.Name, out, err)
		}
		_, err = login(m, a.Name, "sudo -n true", key)
		if free := a.Sudo == lab.SudoFree || a.Name == "root"; free != (err == nil) {
			t.Errorf("%s with sudo %q: sudo without password and terminal: %v", a.Name, a.Sudo, err)
		}
	}
	if !strings.Contains(strings.Join(names(m), " "), "jitadm jitpw jittty plain") {
		t.Errorf("accounts: %v", names(m))
	}
}

func names(m *lab.Machine) (out []string) {
	for _, a := range m.Accounts {
		out = append(out, a.Name)
	}
	return out
}

func TestPasswordsWorkByBothMethodsButNotForRoot(t *testing.T) {
	t.Parallel()
	m := labtest.StartT(t, lab.Config{})
	for _, user := range []string{"jitadm", "jitpw", "plain"} {
		pw := m.Password(user)
		ask := ssh.KeyboardInteractive(func(_, _ string, questions []string, _ []bool) ([]string, error) {
			answers := make([]string, len(questions))
			for i := range answers {
				answers[i] = pw
			}
			return answers, nil
		})
		for how, auth := range map[string]ssh.AuthMethod{"password": ssh.Password(pw), "keyboard-interactive": ask} {
			if out, err := login(m, user, "id -un", auth); err != nil || strings.TrimSpace(out) != user {
				t.Errorf("%s by %s: %q, %v", user, how, out, err)
			}
		}
	}
	if _, err := login(m, "plain", "true", ssh.Password("wrong")); err == nil {
		t.Error("a wrong password was accepted")
	}
	sh(t, m, "echo root:root-pass-1 | chpasswd")
	if _, err := login(m, "root", "true", ssh.Password("root-pass-1")); err == nil {
		t.Error("root came in with a password")
	}
	if out, err := login(m, "jitpw", `printf '%s\n' 'pw-s3cret$"x' | sudo -S -p '' id -un`, ssh.Password(m.Password("jitpw"))); err != nil || out != "root\n" {
		t.Errorf("sudo with the password on stdin: %q, %v", out, err)
	}
}

func TestAnExpiredAccountIsRefused(t *testing.T) {
	t.Parallel()
	m := labtest.StartT(t, lab.Config{})
	key := ssh.PublicKeys(adminKey(t, m))
	sh(t, m, "usermod -e 2001-01-01 plain")
	if _, err := login(m, "plain", "true", key); err == nil {
		t.Error("PAM let an expired account in")
	}
	if _, err := login(m, "jitadm", "true", key); err != nil {
		t.Errorf("another account: %v", err)
	}
}

func TestACertificateOfTheMachinesAuthorityIsALogin(t *testing.T) {
	t.Parallel()
	m := labtest.StartT(t, lab.Config{})
	dir := t.TempDir()
	key := filepath.Join(dir, "k")
	for _, args := range [][]string{
		{"-q", "-t", "ed25519", "-N", "", "-f", key},
		{"-q", "-s", filepath.Join(m.Dir, "user_ca"), "-I", "test", "-n", "plain", "-V", "-1m:+5m", key + ".pub"},
	} {
		if out, err := exec.CommandContext(t.Context(), "ssh-keygen", args...).CombinedOutput(); err != nil {
			t.Fatalf("ssh-keygen: %v: %s", err, out)
		}
	}
	pem, _ := os.ReadFile(key)
	signer, err := ssh.ParsePrivateKey(pem)
	if err != nil {
		t.Fatal(err)
	}
	pub, _ := os.ReadFile(key + "-cert.pub")
	cert, _, _, _, err := ssh.ParseAuthorizedKey(pub)
	if err != nil {
		t.Fatal(err)
	}
	certSigner, err := ssh.NewCertSigner(cert.(*ssh.Certificate), signer)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := login(m, "plain", "true", ssh.PublicKeys(certSigner)); err != nil {
		t.Errorf("certificate for plain: %v", err)
	}
	if _, err := login(m, "jitadm", "true", ssh.PublicKeys(certSigner)); err == nil {
		t.Error("the certificate for plain opened jitadm")
	}
	if _, err := login(m, "plain", "true", ssh.PublicKeys(signer)); err == nil {
		t.Error("the key without its certificate was accepted")
	}
}

func TestStopLeavesNoProcessAndNoMount(t *testing.T) {
	t.Parallel()
	m := labtest.StartT(t, lab.Config{Dir: t.TempDir()})
	if len(remains(t, m.Dir)) == 0 {
		t.Fatal("a running machine has no process that sees its mounts: the check below proves nothing")
	}
	sh(t, m, "setsid sleep 1000 >/dev/null 2>&1 </dev/null & su plain -c 'nohup sleep 1001 >/dev/null 2>&1 &'")
	if err := m.Stop(); err != nil {
		t.Fatal(err)
	}
	if left := remains(t, m.Dir); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	if err := m.Stop(); err != nil {
		t.Errorf("second stop: %v", err)
	}
	if _, err := m.Exec(t.Context(), "true"); !errors.Is(err, lab.ErrNotRunning) {
		t.Errorf("exec after stop: %v", err)
	}
	if c, err := net.DialTimeout("tcp", m.Addr, time.Second); err == nil {
		c.Close()
		t.Error("the port still answers")
	}
}

func TestATemporaryFolderGoesWithTheMachine(t *testing.T) {
	t.Parallel()
	m := labtest.StartT(t, lab.Config{})
	if st, err := os.Stat(m.KeyFile()); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("key file: %v, %v", st, err)
	}
	if _, err := os.Stat(filepath.Join(m.Dir, "stage")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the passwords are still in the folder: %v", err)
	}
	if err := m.Stop(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(m.Dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s: %v", m.Dir, err)
	}
}

func TestMachinesAtOnceDoNotKnowEachOther(t *testing.T) {
	t.Parallel()
	const count = 4
	got := make(chan *lab.Machine, count)
	for i := range count {
		go func() {
			m, err := lab.Start(context.WithoutCancel(t.Context()), lab.Config{Name: fmt.Sprintf("twin-%d", i)})
			if err != nil {
				t.Error(err)
			}
			got <- m
		}()
	}
	ports := map[int]bool{}
	for range count {
		m := <-got
		if m == nil {
			continue
		}
		defer m.Stop()
		ports[m.Port] = true
		sh(t, m, "useradd same; test $(hostname) = "+m.Name)
		if _, err := login(m, "root", "true", ssh.PublicKeys(adminKey(t, m))); err != nil {
			t.Errorf("%s: %v", m.Name, err)
		}
	}
	if len(ports) != count {
		t.Errorf("ports %v, want %d different ones", ports, count)
	}
}

func TestTheChosenShellIsAtBinSh(t *testing.T) {
	t.Parallel()
	for _, shell := range []string{"dash", "bash", "busybox"} {
		t.Run(shell, func(t *testing.T) {
			t.Parallel()
			m := labtest.StartT(t, lab.Config{Shell: shell})
			if got := sh(t, m, "readlink -f /bin/sh"); filepath.Base(got) != shell {
				t.Errorf("/bin/sh is %s", got)
			}
			if got := sh(t, m, "readlink /proc/$$/exe"); filepath.Base(got) != shell {
				t.Errorf("scripts run by %s", got)
			}
		})
	}
}

func TestExecTellsExitStatusErrorTextAndInterruption(t *testing.T) {
	t.Parallel()
	m := labtest.StartT(t, lab.Config{})
	out, err := m.Shell(t.Context(), "echo out; echo oops >&2; exit 7")
	x, ok := errors.AsType[*lab.ExecError](err)
	if !ok || x.Code != 7 || out != "out\n" || !strings.Contains(err.Error(), "oops") {
		t.Errorf("%q, %v", out, err)
	}
	if out, err := m.Exec(t.Context(), "printf", "%s|", "a b", "$c"); err != nil || out != "a b|$c|" {
		t.Errorf("arguments arrive as %q, %v", out, err)
	}
	if _, err := m.Exec(t.Context(), "no-such-program"); err == nil {
		t.Error("a program that does not exist ran")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := m.Shell(ctx, "sleep 987 & sleep 988"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("interrupted: %v", err)
	}
	if got := sh(t, m, `ps -e -o args= | grep '^sleep 98[78]' || :`); got != "" {
		t.Errorf("still running after the context ended: %s", got)
	}
}

func TestAWrongConfigurationIsRefusedAndLeavesNothing(t *testing.T) {
	temp := t.TempDir()
	t.Setenv("TMPDIR", temp)
	for why, cfg := range map[string]lab.Config{
		"name":     {Name: "No_Name"},
		"shell":    {Shell: "no-such-shell"},
		"hide":     {Hide: []string{"relative"}},
		"hide all": {Hide: []string{"/"}},
		"account":  {Accounts: []lab.Account{{Name: "a b"}}},
		"twice":    {Accounts: []lab.Account{{Name: "plain"}}},
	} {
		if m, err := lab.Start(t.Context(), cfg); err == nil {
			t.Errorf("%s: started", why)
			if err := m.Stop(); err != nil {
				t.Error(err)
			}
		}
	}
	if left, err := os.ReadDir(temp); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}
