package verify

import (
	"bytes"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// What became of an object.
const (
	Added   = "added"   // it is there now and was not before
	Missing = "missing" // it was there before and is not now
	Changed = "changed"
)

// Left is one thing in which a machine is not what it was.
type Left struct {
	Change string // Added, Missing or Changed
	Kind   string // file, folder, link, line, process, ...
	Where  string // path of the file, also of a line; empty for a process
	What   string // the line, the process, or what was changed
}

// String says it for people.
func (l Left) String() string {
	s := l.Kind
	if l.Where != "" {
		if l.Kind == "line" {
			s += " in"
		}
		s += " " + l.Where
	}
	if l.What != "" {
		s += ": " + l.What
	}
	return s
}

// maxLines bounds how many lines of one file are told.
const maxLines = 20

// diff tells in what b is not a: files, lines and processes, sorted.
func diff(a, b *look) []Left {
	var out []Left
	for _, at := range slices.Sorted(maps.Keys(a.files)) {
		if b.files[at] == nil && b.tells(at) {
			out = append(out, a.files[at].left(Missing, at))
		}
	}
	for _, at := range slices.Sorted(maps.Keys(b.files)) {
		now := b.files[at]
		was := a.files[at]
		switch {
		case was == nil && a.tells(at):
			out = append(out, now.left(Added, at))
		case was != nil:
			out = append(out, changes(at, was, now)...)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(b.procs)) {
		if _, was := a.procs[key]; !was {
			out = append(out, b.procs[key].left(Added))
		}
	}
	for _, key := range slices.Sorted(maps.Keys(a.procs)) {
		if _, is := b.procs[key]; !is {
			out = append(out, a.procs[key].left(Missing))
		}
	}
	return out
}

// tells reports whether the folder of a path was there in l. Of a folder that
// is new, or gone, only the folder itself is told.
func (l *look) tells(at string) bool {
	folder := at[:strings.LastIndexByte(at, '/')]
	return folder == "" || folder == "/usr/local" || known[folder] || l.files[folder] != nil
}

func (f *file) left(change, at string) Left {
	return Left{Change: change, Kind: f.kind(), Where: at, What: f.about()}
}

func (f *file) kind() string {
	switch {
	case f.mode.IsDir():
		return "folder"
	case f.mode&fs.ModeSymlink != 0:
		return "link"
	case f.mode&fs.ModeSocket != 0:
		return "socket"
	case f.mode&fs.ModeNamedPipe != 0:
		return "pipe"
	case f.mode&fs.ModeDevice != 0:
		return "device file"
	}
	return "file"
}

// about says what tells a file from others.
func (f *file) about() string {
	s := fmt.Sprintf("of %s, mode %s", owner(strconv.FormatUint(uint64(f.uid), 10)), octal(f.mode))
	switch {
	case f.link != "":
		return "to " + f.link
	case f.mode.IsRegular():
		s += fmt.Sprintf(", %d bytes", f.size)
	}
	return s
}

func owner(uid string) string {
	if uid == "0" {
		return "root"
	}
	return "uid " + uid
}

func octal(m fs.FileMode) string {
	n := uint32(m.Perm())
	for bit, v := range map[fs.FileMode]uint32{fs.ModeSetuid: 0o4000, fs.ModeSetgid: 0o2000, fs.ModeSticky: 0o1000} {
		if m&bit != 0 {
			n |= v
		}
	}
	return fmt.Sprintf("%04o", n)
}

func (p process) left(change string) Left {
	return Left{Change: change, Kind: "process", What: fmt.Sprintf("%d of %s: %s", p.pid, owner(p.uid), p.args)}
}

// changes tells in what a file that was there before is another one now.
func changes(at string, was, now *file) []Left {
	if was.kind() != now.kind() {
		return []Left{was.left(Missing, at), now.left(Added, at)}
	}
	var out []Left
	if was.mode != now.mode || was.uid != now.uid || was.gid != now.gid {
		out = append(out, Left{Changed, now.kind(), at, fmt.Sprintf("owner and mode were %d:%d %s and are %d:%d %s",
			was.uid, was.gid, octal(was.mode), now.uid, now.gid, octal(now.mode))})
	}
	switch {
	case was.link != now.link:
		out = append(out, Left{Changed, "link", at, "led to " + was.link + " and leads to " + now.link})
	case was.lined() && now.lined():
		out = append(out, lines(at, was.text, now.text)...)
	case was.text != nil && now.text != nil:
		if !bytes.Equal(was.text, now.text) {
			out = append(out, Left{Changed, "file", at, "has other contents"})
		}
	case now.mode.IsRegular() && (was.size != now.size || was.id.mtime != now.id.mtime):
		out = append(out, Left{Changed, "file", at, fmt.Sprintf("had %d bytes and has %d, or was written again", was.size, now.size)})
	}
	return out
}

// lines tells which lines of a file are there now and were not, and the other
// way round. The lists of members in group files are taken apart.
func lines(at string, was, now []byte) []Left {
	if bytes.Equal(was, now) {
		return nil
	}
	count := map[string]int{}
	before, after := split(at, was), split(at, now)
	for _, l := range before {
		count[l]--
	}
	for _, l := range after {
		count[l]++
	}
	var out []Left
	add := func(change string, all []string, sign int) {
		for _, l := range all {
			if count[l]*sign <= 0 {
				continue
			}
			count[l] -= sign
			out = append(out, Left{change, "line", at, shown(at, l)})
		}
	}
	add(Missing, before, -1)
	add(Added, after, 1)
	switch {
	case len(out) == 0:
		out = []Left{{Changed, "file", at, "its lines are in another order, or its last one ends otherwise"}}
	case len(out) > maxLines:
		out = append(out[:maxLines], Left{Changed, "file", at, fmt.Sprintf("and %d more of its lines", len(out)-maxLines)})
	}
	return out
}

// split returns the lines of a file. One of a group file becomes the group and
// a line for each of its members.
func split(at string, text []byte) []string {
	var out []string
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSuffix(line, "\n")
		f := strings.Split(line, ":")
		if (at != "/etc/group" && at != "/etc/gshadow") || len(f) != 4 {
			out = append(out, line)
			continue
		}
		out = append(out, strings.Join(f[:3], ":")+":")
		for member := range strings.SplitSeq(f[3], ",") {
			if member != "" {
				out = append(out, "group "+f[0]+" has member "+member)
			}
		}
	}
	return out
}

// shown is a line as it may be told: of the files with password hashes only
// whose line it is.
func shown(at, line string) string {
	if at == "/etc/shadow" || at == "/etc/gshadow" {
		if name, _, is := strings.Cut(line, ":"); is {
			return "that of " + name
		}
	}
	return line
}
