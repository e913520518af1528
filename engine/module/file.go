package module

import (
	"errors"

	"runner/engine/lang"
)

// Arguments that several modules of files share.
func modeField(def string) Field {
	return Field{Name: "mode", Type: lang.String, Default: def, Doc: "octal mode, in quotes", Example: `"0640"`}
}

func ownerFields() []Field {
	return []Field{
		{Name: "owner", Type: lang.String, Default: "", Doc: "owning account; empty: the account that the steps run as", Example: "root"},
		{Name: "group", Type: lang.String, Default: "", Doc: "owning group", Example: "adm"},
	}
}

// file makes and deletes folders and empty files. Its object is the path; its
// state the kind, mode, owner and digest.
func file() *Module {
	return &Module{
		Name:    "file",
		Summary: "Create or delete a folder or an empty file below folders that belong to root",
		Examples: []string{
			`name: Make a folder
file:
  path: '/srv/{{ params.username }}'
  mode: "0750"
  owner: root`,
			`name: Delete the folder with what is in it
file:
  path: '/srv/{{ params.username }}'
  state: absent
  recursive: true`,
		},
		Args: append([]Field{
			{Name: "path", Type: lang.String, Required: true, Doc: "absolute path", Example: "/srv/jit/{{ grant.account }}"},
			{Name: "state", Type: lang.String, Default: "directory", Enum: []string{"directory", "file", "absent"}, Doc: "what should be there", Example: "absent"},
			{Name: "exists", Type: lang.String, Default: "adopt", Enum: []string{"fail", "adopt", "update"}, Doc: "when it is there already: fail, adopt (leave it as it is), update (set mode and owner; not undone)", Example: "update"},
			{Name: "recursive", Type: lang.Bool, Default: false, Doc: "with state absent: delete what is in a folder too, never beyond a mount point", Example: "true"},
			modeField(""),
		}, ownerFields()...),
		Outputs: []Field{{Name: "exists", Type: lang.Bool, Doc: "something is there now"}},
		Check:   func(a Args) error { return first(checkPath(a, "path"), checkMode(a, "mode")) },
		Objects: func(a Args) []Object {
			o := Object{ID: "linux:file:" + a.String("path")}
			if a.String("state") != "absent" && a.String("exists") != "update" {
				o.Undo = &Undo{Module: "file", Args: map[string]any{"path": a.String("path"), "state": "absent"}}
			}
			return []Object{o}
		},
	}
}

// maxContent is what a copy may hold, in bytes.
const maxContent = 256 << 10

// copyContent writes a file. Its object is the file.
func copyContent() *Module {
	return &Module{
		Name:    "copy",
		Summary: "Write a file of at most 256 KB in one go, below folders that belong to root",
		Examples: []string{
			`name: Write a file
copy:
  dest: /etc/profile.d/jit.sh
  content: |
    umask 077
  mode: "0644"`,
		},
		Args: append([]Field{
			{Name: "dest", Type: lang.String, Required: true, Doc: "absolute path", Example: "/etc/profile.d/jit.sh"},
			{Name: "content", Type: lang.String, Required: true, Doc: "the whole content", Example: "'umask 077'"},
			{Name: "exists", Type: lang.String, Default: "fail", Enum: []string{"fail", "update"}, Doc: "when a file with other content is there: fail, or update (replace it; not undone)", Example: "update"},
			modeField("0644"),
		}, ownerFields()...),
		Check: func(a Args) error {
			if len(a.String("content")) > maxContent {
				return errors.New("content is more than 256 KB")
			}
			return first(checkPath(a, "dest"), checkMode(a, "mode"))
		},
		Objects: func(a Args) []Object {
			o := Object{ID: "linux:file:" + a.String("dest")}
			if a.String("exists") != "update" {
				o.Undo = &Undo{Module: "file", Args: map[string]any{"path": a.String("dest"), "state": "absent"}}
			}
			return []Object{o}
		},
	}
}

// archive keeps a copy of a home or folder. Nothing undoes it: it is there to
// outlive the grant.
func archive() *Module {
	return &Module{
		Name:    "archive",
		Summary: "Keep a file or folder as a tar.gz, or as it is, elsewhere; one that is kept already stays",
		Examples: []string{
			`name: Keep the home
archive:
  src: '{{ account.home }}'
  dest: '/var/lib/jit/{{ grant.id }}.tar.gz'
  uid: '{{ grant.uid }}'`,
		},
		Args: []Field{
			{Name: "src", Type: lang.String, Required: true, Doc: "absolute path; when it is not there nothing is written", Example: "'{{ account.home }}'"},
			{Name: "dest", Type: lang.String, Required: true, Doc: "absolute path of the archive; its folder is made, mode 0700", Example: "/var/lib/jit/{{ grant.id }}.tar.gz"},
			{Name: "uid", Type: lang.Int, Default: int64(0), Doc: "leave src alone unless it belongs to this uid; 0: whoever it belongs to", Example: "'{{ grant.uid }}'"},
			{Name: "move", Type: lang.Bool, Default: false, Doc: "move src to dest as it is, and give it to root, instead of packing it", Example: "true"},
			modeField("0600"),
		},
		Outputs: []Field{{Name: "size", Type: lang.Int, Doc: "bytes of the archive, 0 when there is none"}},
		Check: func(a Args) error {
			return first(checkPath(a, "src"), checkPath(a, "dest"), checkUID(a, "uid"), checkMode(a, "mode"))
		},
		Objects: func(a Args) []Object { return []Object{{ID: "linux:file:" + a.String("dest")}} },
	}
}
