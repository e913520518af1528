package winrmtest

import (
	"crypto/sha256"
	"fmt"
	"strings"

	"runner/engine/transport/winrm/winrmtest/pseval"
)

// testPath is Test-Path of files and folders.
func (a *Accounts) testPath(c pseval.Call) error {
	path := named(c, "literalpath")
	_, file := a.Files[path]
	return c.Output(a.paths[path] || file && named(c, "pathtype") != "Container")
}

// newFolder is New-Item of a folder, which its parents are made with.
func (a *Accounts) newFolder(c pseval.Call) error {
	if named(c, "itemtype") != "Directory" {
		return &pseval.UnsupportedError{What: "New-Item of " + named(c, "itemtype")}
	}
	a.paths[named(c, "path")] = true
	return nil
}

// removeItem is Remove-Item of a file or an empty folder.
func (a *Accounts) removeItem(c pseval.Call) error {
	path := named(c, "literalpath")
	delete(a.Files, path)
	delete(a.paths, path)
	return nil
}

func (a *Accounts) content(c pseval.Call) error {
	text, ok := a.Files[named(c, "literalpath")]
	if !ok {
		return &pseval.ThrownError{ID: "PathNotFound", Message: "Cannot find path " + named(c, "literalpath")}
	}
	return c.Output(text)
}

func (a *Accounts) setContent(c pseval.Call) error {
	path := named(c, "literalpath")
	if i := strings.LastIndexByte(path, '\\'); i > 2 && !a.paths[path[:i]] {
		return &pseval.ThrownError{ID: "GetContentWriterDirectoryNotFoundError", Message: "Could not find a part of the path " + path}
	}
	if a.Files == nil {
		a.Files = map[string]string{}
	}
	a.Files[path] = named(c, "value")
	return nil
}

func (a *Accounts) hash(c pseval.Call) error {
	sum := fmt.Sprintf("%X", sha256.Sum256([]byte(a.Files[named(c, "literalpath")])))
	return c.Output(&pseval.Object{Properties: map[string]any{"hash": sum}})
}

// theService finds the service that a call is about.
func (a *Accounts) theService(c pseval.Call) (string, error) {
	name := named(c, "name")
	if _, ok := a.Services[name]; !ok {
		return "", &pseval.ThrownError{ID: "NoServiceFoundForGivenName", Message: "Cannot find any service with service name '" + name + "'."}
	}
	return name, nil
}

func (a *Accounts) runService(to bool) func(pseval.Call) error {
	return func(c pseval.Call) error {
		name, err := a.theService(c)
		switch {
		case err != nil:
			return err
		case to && a.Startup[name] == "Disabled":
			return &pseval.ThrownError{ID: "CouldNotStartService", Message: "Service '" + name + "' cannot be started."}
		case a.Running == nil:
			a.Running = map[string]bool{}
		}
		a.Running[name] = to
		return nil
	}
}

func (a *Accounts) setService(c pseval.Call) error {
	name, err := a.theService(c)
	if err != nil {
		return err
	}
	mode := map[string]string{"automatic": "Auto", "manual": "Manual", "disabled": "Disabled"}[strings.ToLower(named(c, "startuptype"))]
	if a.Startup == nil {
		a.Startup = map[string]string{}
	}
	a.Startup[name] = mode
	return nil
}
