package seal

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// keyPrefix starts each line of a key file; a base64 key follows. The first
// line seals. Older keys may follow, one a line, so that what they sealed can
// still be opened after a new key was put in front.
const keyPrefix = "runner-key-1 "

// maxFile bounds a key file, in bytes.
const maxFile = 64 << 10

// Open reads the key file, or creates it with a new key when there is none.
// When several processes create it at once, all of them end up with the key of
// one. The file is complete and on disk before its name appears. Its directory
// must exist. A file that others may read, that belongs to another user, that
// is a symbolic link or that holds no key is an error which says what to do.
func Open(path string) (*Key, error) {
	k, err := read(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return k, err
	}
	if err := create(path); err != nil {
		return nil, err
	}
	return read(path)
}

func read(path string) (*Key, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if errors.Is(err, syscall.ELOOP) {
		return nil, fmt.Errorf("seal: key file %s is a symbolic link: put the file itself there", path)
	}
	if err != nil {
		return nil, fmt.Errorf("seal: open key file: %w", err)
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	if err := check(path, info); err != nil {
		return nil, err
	}
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("seal: read key file: %w", err)
	}
	return parse(path, text)
}

// check refuses files that could have been read or planted by somebody else.
func check(path string, info fs.FileInfo) error {
	if !info.Mode().IsRegular() {
		return fmt.Errorf("seal: key file %s is not a regular file (%s)", path, info.Mode().Type())
	}
	if perm := info.Mode().Perm(); perm&0o077 != 0 {
		return fmt.Errorf("seal: key file %s has mode %04o: others may have read it; chmod 600 %s, and replace the key if they can have", path, perm, path)
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok && int(st.Uid) != os.Geteuid() {
		return fmt.Errorf("seal: key file %s belongs to uid %d, and this is uid %d: run as its owner", path, st.Uid, os.Geteuid())
	}
	return nil
}

// parse reads the lines of a key file. Its errors name lines, never contents.
func parse(path string, text []byte) (*Key, error) {
	if len(text) > maxFile {
		return nil, fmt.Errorf("seal: key file %s is over %d bytes", path, maxFile)
	}
	k := &Key{}
	n := 0
	for line := range strings.Lines(string(text)) {
		n++
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		code, ok := strings.CutPrefix(line, keyPrefix)
		key, err := base64.StdEncoding.DecodeString(code)
		if !ok || err != nil || len(key) != keySize {
			return nil, fmt.Errorf("seal: key file %s, line %d: not a key of this program; restore the file from a backup: what was sealed under it cannot be opened without it", path, n)
		}
		r, err := newRing(key)
		if err != nil {
			return nil, err
		}
		k.rings = append(k.rings, r)
	}
	if len(k.rings) == 0 {
		return nil, fmt.Errorf("seal: key file %s holds no key; restore it from a backup, or remove it to start with a new key", path)
	}
	return k, nil
}

// create writes a new key beside path and links it there, which fails when
// another process was first: then the key of that process counts.
func create(path string) (err error) {
	key := make([]byte, keySize)
	_, _ = rand.Read(key) // never fails (crypto/rand)
	var b bytes.Buffer
	b.WriteString("# Seals secrets in the store. Without it they cannot be opened. Keep it secret, keep a copy.\n")
	b.WriteString(keyPrefix + base64.StdEncoding.EncodeToString(key) + "\n")

	dir := filepath.Dir(path)
	temp := filepath.Join(dir, "."+filepath.Base(path)+"-"+rand.Text())
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("seal: create key file: %w", err)
	}
	defer func() {
		if gone := os.Remove(temp); err == nil && gone != nil {
			err = fmt.Errorf("seal: create key file: %w", gone)
		}
	}()
	_, err = f.Write(b.Bytes())
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("seal: create key file: %w", err)
	}
	if err = os.Link(temp, path); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("seal: create key file: %w", err)
	}
	return syncDir(dir)
}

// syncDir makes names in a directory durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("seal: %w", err)
	}
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
		return fmt.Errorf("seal: sync %s: %w", dir, err)
	}
	return nil
}
