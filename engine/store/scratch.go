package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// unfinished is the file in a scratch folder whose lock its owner holds. A folder
// without it holds what somebody may need.
const unfinished = "unfinished"

// Scratch is a folder for what is not finished yet. When its process is killed it is
// known to be nobody's: [SweepScratch] removes it.
type Scratch struct {
	Dir  string
	lock *os.File
}

// NewScratch makes a folder in dir, whose name begins with prefix. Its owner removes it.
func NewScratch(dir, prefix string) (*Scratch, error) {
	for {
		path, err := os.MkdirTemp(dir, prefix)
		if err != nil {
			return nil, err
		}
		lock, err := os.OpenFile(filepath.Join(path, unfinished), os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
		if errors.Is(err, fs.ErrNotExist) {
			continue // it was empty, and swept away
		}
		if err != nil {
			return nil, errors.Join(err, os.Remove(path))
		}
		held, err := tryLock(lock, unix.LOCK_EX)
		// Where there are no locks nobody else can take one either, and it is left alone.
		if _, gone := os.Lstat(lock.Name()); (held || err != nil) && gone == nil {
			return &Scratch{path, lock}, nil
		}
		_ = lock.Close() // of a folder that is being swept away
	}
}

// Finish says that what is in the folder is whole: from now on nobody but its owner
// removes it.
func (s *Scratch) Finish() error { return os.Remove(filepath.Join(s.Dir, unfinished)) }

// Remove removes the folder and what is in it. Without a Dir it was given away.
func (s *Scratch) Remove() error {
	var err error
	if s.Dir != "" {
		err = removeScratch(s.Dir)
	}
	return errors.Join(err, release(s.lock))
}

// removeScratch removes a scratch folder, and what says that nobody needs it last: killed
// in the middle, the next sweep goes on.
func removeScratch(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, e := range entries {
		if e.Name() == unfinished {
			continue
		}
		if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	return os.RemoveAll(dir)
}

// SweepScratch removes the scratch folders in dir, of this prefix and this user, whose
// owners are dead. Left are those of which that is not sure, and which no living process
// holds: they may hold what somebody needs. Where locks say nothing about other
// machines, on network file systems, nothing is done.
func SweepScratch(dir, prefix string) (removed, left []string, err error) {
	if dir, err = filepath.Abs(dir); err != nil || localOnly(dir) != nil {
		return nil, nil, err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, nil, fmt.Errorf("store: look for what was left in %s: %w", dir, err)
	}
	var errs error
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		if !strings.HasPrefix(e.Name(), prefix) || !e.IsDir() || !own(path) {
			continue
		}
		switch dead, err := sweepOne(path); {
		case err != nil:
			errs = errors.Join(errs, err)
		case dead == gone:
			removed = append(removed, path)
		case dead == doubtful:
			left = append(left, path)
		}
	}
	return removed, left, errs
}

// What becomes of a scratch folder.
type fate int

const (
	alive fate = iota
	gone
	doubtful
)

func sweepOne(path string) (fate, error) {
	lock, err := os.OpenFile(filepath.Join(path, unfinished), os.O_RDWR|unix.O_NOFOLLOW, 0)
	if errors.Is(err, fs.ErrNotExist) {
		if os.Remove(path) == nil { // it is empty
			return gone, nil
		}
		return doubtful, nil
	}
	if err != nil {
		return alive, err
	}
	defer func() { _ = release(lock) }()
	if held, err := tryLock(lock, unix.LOCK_EX); err != nil || !held {
		return alive, nil // where there are no locks nobody knows who lives
	}
	return gone, removeScratch(path)
}

// own reports whether something belongs to this user: others could have us remove what
// is theirs to give.
func own(path string) bool {
	var st unix.Stat_t
	return unix.Lstat(path, &st) == nil && int(st.Uid) == os.Geteuid()
}
