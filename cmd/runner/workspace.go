package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"runner/engine"
	"runner/engine/lang"
)

// workspaceFile makes a folder a workspace.
const workspaceFile = "runner.yaml"

// workspace is a folder with inventories, templates and state.
type workspace struct {
	dir       string // as messages show it
	abs       string
	operators []string
	profiles  map[string]*profile
	database  *database // nil: the store is in the state folder
	scan      rounds
	retention engine.Retention
}

// state is where the store, its key and the known hosts are.
func (w *workspace) state() string { return filepath.Join(w.abs, "state") }

// findWorkspace returns the folder of the workspace: the one that was named,
// or the nearest one upwards from cwd.
func findWorkspace(named, by, cwd string) (string, error) {
	if named != "" {
		if !filepath.IsAbs(named) {
			named = filepath.Join(cwd, named)
		}
		if !hasWorkspaceFile(named) {
			return "", &codeError{
				code: exitUsage, err: fmt.Errorf("%s %s is no workspace: it has no %s", by, named, workspaceFile),
				hints: []string{"runner init " + named + " makes it one"},
			}
		}
		return named, nil
	}
	for dir := cwd; ; dir = filepath.Dir(dir) {
		if hasWorkspaceFile(dir) {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", &codeError{
				code: exitUsage, err: fmt.Errorf("no workspace: neither %s nor a folder above it has a %s", cwd, workspaceFile),
				hints: []string{"runner init DIR makes one; --workspace or RUNNER_WORKSPACE says where one is"},
			}
		}
	}
}

func hasWorkspaceFile(dir string) bool {
	st, err := os.Stat(filepath.Join(dir, workspaceFile))
	return err == nil && !st.IsDir()
}

// loadWorkspace reads runner.yaml of dir. Wrong contents are lang.Problems.
func loadWorkspace(dir, cwd string) (*workspace, error) {
	w := &workspace{dir: dir, abs: dir, scan: rounds{every: scanEvery}}
	if rel, err := filepath.Rel(cwd, dir); err == nil && rel != ".." && !strings.HasPrefix(rel, "../") {
		w.dir = rel
	}
	name := filepath.Join(w.dir, workspaceFile)
	text, err := os.ReadFile(filepath.Join(dir, workspaceFile))
	if err != nil {
		return nil, err
	}
	docs, ps := lang.Parse(name, text)
	d := lang.Decoder{Problems: ps}
	switch {
	case len(ps) > 0:
	case len(docs) == 0:
		return nil, lang.Problems{{
			Pos: lang.Pos{File: name, Line: 1, Col: 1}, Code: "empty",
			Message: "the file is empty; it starts with schema: runner/v1 and kind: workspace",
		}}
	case len(docs) > 1:
		d.Add(docs[1], "too-many", "%s holds one document; this one belongs into the folder inventories", workspaceFile)
	default:
		f := d.Map(docs[0], "a workspace")
		f.Header("workspace")
		w.operators = f.Strings("operators")
		if n := f.Take("database"); n != nil {
			w.database = readDatabase(&d, n, dir)
		}
		if n := f.Take("scan"); n != nil {
			w.scan = readRounds(&d, n)
		}
		if n := f.Take("retention"); n != nil {
			w.retention = readRetention(&d, n)
		}
		if n := f.Take("profiles"); n != nil {
			w.profiles = readProfiles(&d, n)
		}
		f.End()
	}
	if err := d.Problems.Err(); err != nil {
		return nil, err
	}
	return w, nil
}

// workspaceDir finds the workspace that the flags and the process mean.
func (a *app) workspaceDir() (dir, cwd string, err error) {
	if cwd, err = os.Getwd(); err != nil {
		return "", "", err
	}
	named, by := a.flags.workspace, "--workspace"
	if named == "" {
		named, by = a.env("RUNNER_WORKSPACE"), "RUNNER_WORKSPACE"
	}
	dir, err = findWorkspace(named, by, cwd)
	return dir, cwd, err
}

// workspace returns the workspace, which has to be there.
func (a *app) workspace() (*workspace, error) {
	if a.ws != nil {
		return a.ws, nil
	}
	dir, cwd, err := a.workspaceDir()
	if err != nil {
		return nil, err
	}
	a.ws, err = loadWorkspace(dir, cwd)
	return a.ws, err
}

// anyWorkspace is workspace for commands that can do without one: nil then.
func (a *app) anyWorkspace() (*workspace, error) {
	if a.flags.workspace == "" && a.env("RUNNER_WORKSPACE") == "" {
		cwd, err := os.Getwd()
		if err != nil {
			return nil, err
		}
		if _, none := findWorkspace("", "", cwd); none != nil {
			return nil, nil //nolint:nilnil,nilerr // there is none, and that is no error here
		}
	}
	return a.workspace()
}

// exists reports whether there is something at path.
func exists(path string) bool {
	_, err := os.Lstat(path) //nolint:gosec // only whether it is there
	return !errors.Is(err, fs.ErrNotExist)
}
