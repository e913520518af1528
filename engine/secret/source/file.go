package source

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// maxLinks is how many symbolic links a path may lead through, as in Linux.
const maxLinks = 40

func readFile(path string) ([]byte, error) {
	real, err := resolve(path)
	if err != nil {
		return nil, err
	}
	// Not blocking: a named pipe must not make the caller wait. What was
	// resolved is no link any more.
	f, err := os.OpenFile(real, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, explain(path, err)
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return nil, explain(path, err)
	}
	if err := check(path, info); err != nil {
		return nil, err
	}
	text, err := io.ReadAll(io.LimitReader(f, maxSecret+1))
	if err != nil {
		return nil, explain(path, err)
	}
	if len(text) > maxSecret {
		return nil, fmt.Errorf("source: %s is over 1 MiB: a secret is smaller", path)
	}
	return text, nil
}

// check refuses files that others can have read or written.
func check(path string, info fs.FileInfo) error {
	if !info.Mode().IsRegular() {
		return fmt.Errorf("source: %s is not a regular file (%s): put the secret into a file", path, info.Mode().Type())
	}
	if perm := info.Mode().Perm(); perm&0o177 != 0 {
		return fmt.Errorf("source: %s has mode %04o: others may have read it; chmod 600 %s, and change the secret if they can have", path, perm, path)
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if ok && int(st.Uid) != os.Geteuid() && st.Uid != 0 {
		return fmt.Errorf("source: %s belongs to uid %d: it has to belong to root or to uid %d, who reads it; chown it", path, st.Uid, os.Geteuid())
	}
	return nil
}

// resolve follows the symbolic links of a path. It refuses those in directories
// that everybody can write to: anybody could have put them there.
func resolve(path string) (string, error) {
	at, rest := "/", strings.Split(path, "/") // not cleaned: link/.. is not the same as nothing
	if !filepath.IsAbs(path) {
		var err error
		if at, err = os.Getwd(); err != nil {
			return "", explain(path, err)
		}
	}
	for links := 0; len(rest) > 0; {
		name := rest[0]
		rest = rest[1:]
		switch name {
		case "", ".":
			continue
		case "..":
			at = filepath.Dir(at)
			continue
		}
		next := filepath.Join(at, name)
		info, err := os.Lstat(next)
		if err != nil {
			return "", explain(path, err)
		}
		if info.Mode().Type() != fs.ModeSymlink {
			at = next
			continue
		}
		if links++; links > maxLinks {
			return "", fmt.Errorf("source: %s leads through more than %d symbolic links", path, maxLinks)
		}
		to, err := follow(path, at, next)
		if err != nil {
			return "", err
		}
		if filepath.IsAbs(to) {
			at = "/"
		}
		rest = append(strings.Split(to, "/"), rest...)
	}
	return at, nil
}

// follow returns where the link in the directory dir points.
func follow(path, dir, link string) (string, error) {
	info, err := os.Lstat(dir)
	if err != nil {
		return "", explain(path, err)
	}
	if info.Mode().Perm()&0o002 != 0 {
		return "", fmt.Errorf("source: %s leads through the symbolic link %s, and everybody can write to its directory: name the file itself", path, link)
	}
	to, err := os.Readlink(link)
	if err != nil {
		return "", explain(path, err)
	}
	return to, nil
}

// explain adds what to do about an error of the file system.
func explain(path string, err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("source: %s does not exist: write the secret into it and chmod 600 it: %w", path, err)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("source: %s cannot be read by uid %d: chown it: %w", path, os.Geteuid(), err)
	}
	return fmt.Errorf("source: %w", err)
}
