package module

import (
	"fmt"
	"regexp"

	"runner/engine/lang"
)

// winFile makes folders and takes files and folders away. Its object is the path.
func winFile() *Module {
	return &Module{
		Name:    "win_file",
		Summary: "Make a folder, or delete a file or a folder, on Windows",
		Examples: []string{
			`name: A folder of its own
win_file: {path: 'C:\JIT', state: directory}`,
		},
		Args: []Field{
			{Name: "path", Type: lang.String, Required: true, Doc: "absolute path, without wildcards", Example: `'C:\JIT'`},
			{Name: "state", Type: lang.String, Default: "look", Enum: []string{"look", "directory", "absent"}, Doc: "look changes nothing; directory makes a folder, absent deletes", Example: "directory"},
			{Name: "recurse", Type: lang.Bool, Default: false, Doc: "with state absent: a folder with all that is in it; links in it go, what they lead to stays", Example: "true"},
		},
		Outputs: []Field{
			{Name: "exists", Type: lang.Bool, Doc: "it is there now"},
			{Name: "directory", Type: lang.Bool, Doc: "it is a folder"},
		},
		Check: func(a Args) error { return checkWinPath(a, "path") },
		Objects: func(a Args) []Object {
			o := Object{ID: "windows:file:" + a.String("path")}
			switch a.String("state") {
			case "look":
				return nil
			case "directory":
				o.Undo = &Undo{Module: "win_file", Args: map[string]any{"path": a.String("path"), "state": "absent"}}
			}
			return []Object{o}
		},
	}
}

// winCopy writes text files. Its object is the file, its state the SHA-256.
func winCopy() *Module {
	return &Module{
		Name:    "win_copy",
		Summary: "Write a text file on Windows",
		Examples: []string{
			`name: Leave a note
win_copy: {dest: 'C:\JIT\note.txt', content: 'for {{ params.username }}'}`,
		},
		Args: []Field{
			{Name: "dest", Type: lang.String, Required: true, Doc: "absolute path of the file; its folder must be there", Example: `'C:\JIT\note.txt'`},
			{Name: "content", Type: lang.String, Required: true, Doc: "the text; written as UTF-8 with a byte order mark, as Windows PowerShell does", Example: "hello"},
			{Name: "replace", Type: lang.Bool, Default: false, Doc: "a file with another content is replaced; it is not put back at the end", Example: "true"},
		},
		Check: func(a Args) error { return checkWinPath(a, "dest") },
		Objects: func(a Args) []Object {
			o := Object{ID: "windows:file:" + a.String("dest")}
			if !a.Bool("replace") {
				o.Undo = &Undo{Module: "win_file", Args: map[string]any{"path": a.String("dest"), "state": "absent"}}
			}
			return []Object{o}
		},
	}
}

var winServiceName = regexp.MustCompile(`^[A-Za-z0-9_.$-]+$`)

// winService starts and stops services. Its object is the service, which was there
// before, so that nothing is undone.
func winService() *Module {
	return &Module{
		Name:    "win_service",
		Summary: "Look at a service of Windows, start or stop it, change how it starts",
		Examples: []string{
			"name: The remote desktop is on\nwin_service: {name: TermService, state: running}",
		},
		Args: []Field{
			{Name: "name", Type: lang.String, Required: true, Doc: "name of the service, not the one that is displayed", Example: "TermService"},
			{Name: "state", Type: lang.String, Default: "", Enum: []string{"", "running", "stopped"}, Doc: "left as it is when not given", Example: "running"},
			{Name: "startup", Type: lang.String, Default: "", Enum: []string{"", "auto", "manual", "disabled"}, Doc: "how it starts; left as it is when not given", Example: "auto"},
		},
		Outputs: []Field{
			{Name: "exists", Type: lang.Bool, Doc: "the service is there"},
			{Name: "status", Type: lang.String, Doc: "Running, Stopped, or on the way: Start Pending and the like"},
			{Name: "startup", Type: lang.String, Doc: "Auto, Manual or Disabled"},
			{Name: "account", Type: lang.String, Doc: "who it runs as"},
		},
		Check: func(a Args) error {
			if n := a.String("name"); has(a, "name") && !winServiceName.MatchString(n) {
				return fmt.Errorf("name %q is no name of a service; it has letters, digits and . _ $ -, as Get-Service shows it under Name", n)
			}
			return nil
		},
		Objects: func(a Args) []Object {
			if a.String("state") == "" && a.String("startup") == "" {
				return nil
			}
			return []Object{{ID: "windows:service:" + a.String("name")}}
		},
	}
}
