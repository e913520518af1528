package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

const (
	binPath  = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	killWait = 30 * time.Second
)

// programs are what a machine cannot do without, with the Debian package of each.
var programs = [][2]string{
	{"sshd", "openssh-server"},
	{"ssh-keygen", "openssh-client"},
	{"sudo", "sudo"},
	{"visudo", "sudo"},
	{"useradd", "passwd"},
	{"chpasswd", "passwd"},
	{"nsenter", "util-linux"},
	{"mount", "mount"},
	{"pivot_root", "util-linux"},
	{"hostname", "hostname"},
}

// find returns the path of a program in the system folders, whatever PATH is.
func find(name string) (string, bool) {
	for dir := range strings.SplitSeq(binPath, ":") {
		p := filepath.Join(dir, name)
		if st, err := os.Stat(p); err == nil && !st.IsDir() && st.Mode()&0o111 != 0 {
			return p, true
		}
	}
	return "", false
}

func missing() error {
	if runtime.GOOS != "linux" {
		return errors.New("a lab machine needs Linux")
	}
	if !privileged() {
		return errors.New("a lab machine needs root")
	}
	var absent, pkgs []string
	for _, p := range programs {
		if _, ok := find(p[0]); !ok {
			absent = append(absent, p[0])
			if !strings.Contains(strings.Join(pkgs, " ")+" ", p[1]+" ") {
				pkgs = append(pkgs, p[1])
			}
		}
	}
	if len(absent) > 0 {
		return fmt.Errorf("a lab machine needs %s (Debian: apt-get install %s)",
			strings.Join(absent, ", "), strings.Join(pkgs, " "))
	}
	return nil
}

// trial does once what starting a machine does, and says what was refused.
const trial = `PATH=` + binPath + `; d=$1
mount --make-rprivate / && mount -t tmpfs lab "$d" || { echo "a mount of its own" >&2; exit 1; }
mkdir "$d/u" "$d/w" "$d/r"
mount -t overlay -o "lowerdir=/,upperdir=$d/u,workdir=$d/w" lab "$d/r" || { echo "an overlay over /" >&2; exit 1; }
mount -t proc proc "$d/r/proc" || { echo "a /proc of its own" >&2; exit 1; }
mount -t devpts -o newinstance devpts "$d/r/dev" || { echo "terminals of its own" >&2; exit 1; }
hostname lab-trial || { echo "a host name of its own" >&2; exit 1; }`

// Require says in one sentence what keeps a machine from being started here, nil
// for nothing. It really makes the namespaces and mounts, which takes about 20 ms
// and leaves nothing behind.
func Require() error {
	if err := missing(); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "runner-lab-trial-")
	if err != nil {
		return fmt.Errorf("a lab machine needs a writable temporary folder: %w", err)
	}
	defer os.RemoveAll(dir)
	var msg bytes.Buffer
	cmd := exec.CommandContext(context.Background(), "/bin/sh", "-c", trial, "sh", dir)
	cmd.Stderr = &msg
	_, done, err := spawn(cmd, false)
	if err != nil {
		return fmt.Errorf("a lab machine needs new namespaces (in a container: --privileged): %w", err)
	}
	<-done
	if !cmd.ProcessState.Success() {
		lines := strings.Split(strings.TrimSpace(msg.String()), "\n")
		return fmt.Errorf("a lab machine needs %s, which was refused (in a container: --privileged): %s",
			lines[len(lines)-1], lines[0])
	}
	return nil
}
