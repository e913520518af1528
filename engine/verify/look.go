package verify

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"unicode/utf8"
)

// maxText is how large a file may be for its text to be compared, in bytes; of
// larger ones size and time are.
const maxText = 64 << 10

// look is what there was on a machine at one moment.
type look struct {
	files map[string]*file
	procs map[string]process // by number and start, which nobody has again
}

// file is one object of the machine's file systems.
type file struct {
	mode     fs.FileMode
	uid, gid uint32
	size     int64
	link     string // where a symbolic link leads
	text     []byte // of a regular file up to maxText; else nil
	id       inode
}

// process is a program that runs on the machine.
type process struct {
	pid  int
	uid  string
	args string
}

// elsewhere are the trees that are not walked: not files; logs, which are
// evidence and stay; and what is looked at once in the end, see stage.programs.
var elsewhere = map[string]bool{
	"/proc": true, "/sys": true, "/dev/pts": true, "/var/log": true,
	"/usr": true, "/var/lib/dpkg": true, "/var/lib/apt": true, "/var/cache": true,
}

// known are paths that may change whenever accounts are made or programs run
// and that say nothing of a grant. README.md of templates tells them, too.
var known = map[string]bool{
	"/etc/passwd-": true, "/etc/shadow-": true, "/etc/group-": true, "/etc/gshadow-": true, // what the account tools keep of the last change
	"/etc/subuid-": true, "/etc/subgid-": true,
	"/etc/.pwd.lock":    true,                       // their lock
	"/run/runner":       true,                       // the folder of runner's progress files; what is in it counts
	"/run/utmp":         true,                       // who is logged in
	"/run/motd.dynamic": true,                       // made at each login
	"/run/sudo":         true, "/run/sudo/ts": true, // folders of sudo's own
}

// ourSession tells the sessions of sshd in which runner itself is logged in.
// What runs in them has other names.
func (p process) ourSession() bool {
	return strings.HasPrefix(p.args, "sshd: "+labAccount) || strings.HasPrefix(p.args, "sshd: root")
}

func newLook() *look {
	return &look{files: map[string]*file{}, procs: map[string]process{}}
}

// read reads what there is below root, the machine's own root as this host sees
// it. was, which may be nil, spares reading files that did not change.
func (l *look) read(root string, was *look) error {
	for _, top := range append([]string{"/"}, local...) {
		if err := l.walk(root, top, was); err != nil {
			return fmt.Errorf("verify: look at the machine: %w", err)
		}
	}
	return nil
}

// local are the folders of /usr that are for administrators.
var local = []string{"/usr/local/bin", "/usr/local/sbin", "/usr/local/etc"}

func (l *look) walk(root, top string, was *look) error {
	return filepath.WalkDir(root+top, func(path string, d fs.DirEntry, err error) error {
		at := strings.TrimPrefix(path, root)
		switch {
		case errors.Is(err, fs.ErrNotExist): // gone while we looked
			return nil
		case err != nil:
			return err
		case at == "/" || known[at]:
			return nil
		case elsewhere[at]:
			return fs.SkipDir
		}
		f, err := describe(path, d, was.file(at))
		if err == nil && f != nil {
			l.files[at] = f
		}
		return err
	})
}

// file returns what was at a path, or nil.
func (l *look) file(at string) *file {
	if l == nil {
		return nil
	}
	return l.files[at]
}

// describe describes one object; nil when it is gone by now.
func describe(path string, d fs.DirEntry, was *file) (*file, error) {
	info, err := d.Info()
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil //nolint:nilnil // not an error, and nothing either
	}
	if err != nil {
		return nil, err
	}
	id, uid, gid, is := inodeOf(info)
	if !is {
		return nil, fmt.Errorf("%s: no owner is known", path)
	}
	f := &file{mode: info.Mode(), uid: uid, gid: gid, id: id}
	switch {
	case info.Mode()&fs.ModeSymlink != 0:
		if f.link, err = os.Readlink(path); errors.Is(err, fs.ErrNotExist) {
			return nil, nil //nolint:nilnil // as above
		}
	case !info.Mode().IsRegular():
	case was != nil && was.id == f.id:
		f.size, f.text = was.size, was.text
	default:
		f.size = info.Size()
		if f.size <= maxText {
			f.text, err = text(path)
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil //nolint:nilnil // as above
		}
	}
	return f, err
}

// text returns what is in a file, never that of what a link leads to.
func text(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxText))
	if b == nil {
		b = []byte{}
	}
	return b, err
}

// lined reports whether a file is a text that can be compared line by line.
func (f *file) lined() bool {
	return f != nil && f.text != nil && utf8.Valid(f.text) && !bytes.ContainsRune(f.text, 0)
}

// processes reads the machine's own /proc; see proc(5).
func (l *look) processes(root string) error {
	entries, err := os.ReadDir(root + "/proc")
	if err != nil {
		return err
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		dir := root + "/proc/" + e.Name()
		stat, err := os.ReadFile(dir + "/stat")
		if err != nil {
			continue // it has ended
		}
		// The name in brackets may hold anything. The state follows it, and the
		// start is the 20th field from there.
		end := max(bytes.LastIndexByte(stat, ')'), 0)
		fields := bytes.Fields(bytes.TrimPrefix(stat[end:], []byte(")")))
		if len(fields) < 20 || fields[0][0] == 'Z' || fields[0][0] == 'X' {
			continue
		}
		_, name, _ := bytes.Cut(stat[:end], []byte("("))
		p := process{pid: pid, args: string(name)}
		if args, err := os.ReadFile(dir + "/cmdline"); err == nil && len(args) > 0 {
			p.args = strings.TrimSpace(string(bytes.ReplaceAll(args, []byte{0}, []byte{' '})))
		}
		if p.ourSession() {
			continue
		}
		if status, err := os.ReadFile(dir + "/status"); err == nil {
			p.uid = uidOf(string(status))
		}
		l.procs[e.Name()+" "+string(fields[19])] = p
	}
	return nil
}

// loggedIn reports whether sshd has a session, or is about to.
func (l *look) loggedIn() bool {
	for _, p := range l.procs {
		if strings.HasPrefix(p.args, "sshd") && p.pid != 1 {
			return true
		}
	}
	return false
}

// uidOf returns the real uid of /proc/PID/status.
func uidOf(status string) string {
	for line := range strings.Lines(status) {
		if ids, is := strings.CutPrefix(line, "Uid:"); is {
			if f := strings.Fields(ids); len(f) > 0 {
				return f[0]
			}
		}
	}
	return "?"
}
