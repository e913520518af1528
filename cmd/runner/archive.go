package main

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// A backup is a tar of these files, in this order: the manifest first, so that what
// follows can be held against it.
const (
	manifestName = "manifest.json"
	backupFormat = "runner-backup-1"
	maxManifest  = 1 << 20
)

var backupFiles = []string{"runner.db", "logs.db", "known_hosts", "key"}

// manifest says what a backup holds.
type manifest struct {
	Format  string         `json:"format"`
	Made    time.Time      `json:"made"`
	Version string         `json:"version"` // of the runner that made it
	Proof   []byte         `json:"proof,omitempty"`
	Files   []manifestFile `json:"files"`
}

// manifestFile is a file of a backup.
type manifestFile struct {
	Name   string `json:"name"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

// errArchive is what is wrong with the file of a backup.
func errArchive(format string, args ...any) error {
	return &codeError{code: exitFile, err: fmt.Errorf(format, args...), hints: []string{"take another backup; nothing was changed"}}
}

// pack writes the files of a folder that belong to a backup into a tar.
func pack(w io.Writer, dir string, m manifest) error {
	m.Format = backupFormat
	for _, name := range backupFiles {
		size, sum, err := sumOf(filepath.Join(dir, name))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		m.Files = append(m.Files, manifestFile{name, size, sum})
	}
	text, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	t := tar.NewWriter(w)
	if err := header(t, manifestName, int64(len(text)), m.Made); err != nil {
		return err
	}
	if _, err := t.Write(text); err != nil {
		return err
	}
	for _, f := range m.Files {
		if err := header(t, f.Name, f.Size, m.Made); err != nil {
			return err
		}
		if err := send(t, filepath.Join(dir, f.Name)); err != nil {
			return err
		}
	}
	return t.Close()
}

func header(t *tar.Writer, name string, size int64, at time.Time) error {
	return t.WriteHeader(&tar.Header{Name: name, Size: size, Mode: 0o600, ModTime: at, Typeflag: tar.TypeReg})
}

func send(w io.Writer, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	_, err = io.Copy(w, f)
	return errors.Join(err, f.Close())
}

func sumOf(path string) (size int64, sum string, err error) {
	h := sha256.New()
	if err := send(h, path); err != nil {
		return 0, "", err
	}
	st, err := os.Stat(path)
	if err != nil {
		return 0, "", err
	}
	return st.Size(), hex.EncodeToString(h.Sum(nil)), nil
}

// unpack reads a backup. Its files go into dir, or with "" nowhere; every one is held
// against the manifest. What does not belong into a backup is refused.
func unpack(ctx context.Context, r io.Reader, dir string) (m manifest, err error) {
	t := tar.NewReader(r)
	h, err := t.Next()
	if err != nil || h.Name != manifestName || h.Size > maxManifest {
		return m, errArchive("this is no backup of runner")
	}
	text, err := io.ReadAll(io.LimitReader(t, maxManifest))
	if err == nil {
		err = json.Unmarshal(text, &m)
	}
	if err != nil || m.Format != backupFormat {
		return m, errArchive("this is no backup that this runner reads: it reads %s", backupFormat)
	}
	for _, f := range m.Files {
		h, err := t.Next()
		if err != nil || h.Name != f.Name || h.Size != f.Size || h.Typeflag != tar.TypeReg || !slices.Contains(backupFiles, f.Name) {
			return m, errArchive("the backup is not whole: %s is missing, or another file than its manifest says", f.Name)
		}
		if err := keep(ctx, t, dir, f); err != nil {
			return m, err
		}
	}
	if _, err := t.Next(); !errors.Is(err, io.EOF) {
		return m, errArchive("the backup is not whole: after %s something else follows, or its end is missing", m.Files[max(len(m.Files)-1, 0)].Name)
	}
	return m, nil
}

// keep writes one file of a backup and checks its sum.
func keep(ctx context.Context, r io.Reader, dir string, f manifestFile) error {
	h := sha256.New()
	to := io.Writer(h)
	var out *os.File
	if dir != "" {
		var err error
		if out, err = os.OpenFile(filepath.Join(dir, f.Name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600); err != nil {
			return err
		}
		to = io.MultiWriter(h, out)
	}
	n, err := io.Copy(to, io.LimitReader(&stoppable{ctx, r}, f.Size))
	if out != nil {
		err = errors.Join(err, out.Sync(), out.Close())
	}
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF), err == nil && (n != f.Size || hex.EncodeToString(h.Sum(nil)) != f.SHA256):
		return errArchive("the backup is damaged: %s is not what was saved", f.Name)
	}
	return err
}

// stoppable ends reading when its context ends.
type stoppable struct {
	ctx context.Context //nolint:containedctx // of one call
	r   io.Reader
}

func (s *stoppable) Read(p []byte) (int, error) {
	if err := s.ctx.Err(); err != nil {
		return 0, err
	}
	return s.r.Read(p)
}
