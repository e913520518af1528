// Package keeper turns projects of KeeperPAM, the JSON of `pam project import` and
// `pam project export` of its Commander, into inventories, devices and credentials.
// Secrets of a file never leave it: what is written says where they are to be put.
// It reads and writes no files, and connects to nothing.
package keeper

import (
	"cmp"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"runner/engine/inventory"
	"runner/engine/lang"
)

// Options are what a conversion is told.
type Options struct {
	File    string // name of the JSON file, for messages
	Prefix  string // of the names of what is made
	Secrets string // folder that the documents name for secrets
	// Skip leaves resources out in which something is wrong, with a note.
	Skip     bool
	Existing *inventory.Set // nil: nothing is there
}

// Result is what a project becomes.
type Result struct {
	Project   string
	Files     []File
	Documents []Document
	Secrets   []Secret
	Notes     []Note
}

// File is a file of the folder inventories.
type File struct{ Name, Text string }

// Document is a document of them.
type Document struct {
	Kind, Name string
	Path       string // in the JSON
}

// Secret says what has to be put where.
type Secret struct {
	File        string
	Kind        string // password or private_key
	Path        string // in the JSON; "": it has none
	Credentials []string
}

// Note says what was not taken over, and why.
type Note struct {
	Path  string
	Text  string
	Count int // how often; Path is the first
}

// converter is a conversion under way.
type converter struct {
	lang.Decoder
	tree
	o           Options
	out         Result
	names       names
	noted       map[string]int // index of a note, by its text
	inventories map[string]inventoryUse
	users       []*user // of the project
	directories []directory
	documents   []string
	secrets     map[string]int           // index of a secret, by its file
	wrong       map[string]lang.Problems // what is wrong with resources, by their path
	skip        map[string]lang.Problems // resources that are left out
}

// directory is a pamDirectory: accounts of it may administer machines.
type directory struct {
	title, uid, realm string
	users             []*user
}

// Convert turns the JSON of a project into documents. With problems there is no
// result.
func Convert(text []byte, o Options) (*Result, lang.Problems) {
	t, ps := parse(o.File, text)
	if len(ps) > 0 {
		return nil, ps
	}
	c := run(t, o, nil)
	if len(c.wrong) > 0 && o.Skip {
		c = run(t, o, c.wrong)
	}
	if errs, _ := c.Problems.Split(); len(errs) > 0 {
		return nil, c.located(errs)
	}
	c.files()
	return &c.out, nil
}

// run converts a project without the resources to skip.
func run(t tree, o Options, skip map[string]lang.Problems) *converter {
	c := &converter{
		tree: t, o: o, noted: map[string]int{}, inventories: map[string]inventoryUse{}, secrets: map[string]int{},
		names: names{given: map[string]int{}}, wrong: map[string]lang.Problems{}, skip: skip,
	}
	c.project()
	return c
}

// located puts the paths in front of messages.
func (c *converter) located(ps lang.Problems) lang.Problems {
	paths := map[lang.Pos]string{} // of what stands in a text the one of the text, which is shorter
	for n, path := range c.paths {
		if old, is := paths[n.Pos]; !is || len(path) < len(old) {
			paths[n.Pos] = path
		}
	}
	for i, p := range ps {
		if at := paths[p.Pos]; at != "" && !strings.HasPrefix(p.Message, at) {
			ps[i].Message = at + ": " + p.Message
		}
	}
	ps.Sort()
	return ps
}

// note says that something is not taken over; the same text once, with a count.
func (c *converter) note(n *lang.Node, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	c.noteOnce(n, text, text)
}

// noteOnce is note for what is the same when its key is.
func (c *converter) noteOnce(n *lang.Node, key, text string) {
	if i, is := c.noted[key]; is {
		c.out.Notes[i].Count++
		return
	}
	c.noted[key] = len(c.out.Notes)
	c.out.Notes = append(c.out.Notes, Note{Path: cmp.Or(c.paths[n], "the project"), Text: text, Count: 1})
}

// object reads n as an object, or says that it is none, without what it is.
func (c *converter) object(n *lang.Node, what string) (*lang.Fields, bool) {
	switch {
	case n == nil, n.Kind == lang.NullNode:
		return c.Part(nil, what), false
	case n.Kind != lang.MapNode:
		c.Add(n, "wrong-type", "%s must be an object, not %s", what, n.Kind)
		return c.Part(nil, what), false
	}
	return c.Map(n, what), len(n.Entries) > 0
}

// items reads a list; nothing is an empty one.
func (c *converter) items(n *lang.Node, what string) []*lang.Node {
	switch {
	case n == nil, n.Kind == lang.NullNode:
		return nil
	case n.Kind != lang.ListNode:
		c.Add(n, "wrong-type", "%s must be a list, not %s", what, n.Kind)
		return nil
	case len(n.Items) > maxItems:
		c.Add(n, "too-large", "%s has %d entries; at most %d are read", what, len(n.Items), maxItems)
		return nil
	}
	return n.Items
}

// text reads a value as a text; nothing is "". Values are never shown.
func (c *converter) text(n *lang.Node, what string) string {
	switch {
	case n == nil, n.Kind == lang.NullNode:
		return ""
	case n.Kind != lang.ScalarNode:
		c.Add(n, "wrong-type", "%s must be a text, not %s", what, n.Kind)
	case len(n.Text) > 1000:
		c.Add(n, "too-large", "%s has %d bytes; at most 1000 are possible", what, len(n.Text))
	default:
		return strings.TrimSpace(n.Text)
	}
	return ""
}

// first takes the first of several spellings of a key.
func first(f *lang.Fields, keys ...string) *lang.Node {
	var n *lang.Node
	for _, k := range keys {
		if v := f.Take(k); n == nil {
			n = v
		}
	}
	return n
}

// rest notes what nobody took: known keys that have no counterpart here, and
// others.
func (c *converter) rest(f *lang.Fields, without ...string) {
	for _, e := range f.Rest() {
		switch key := e.Key.Text; {
		case strings.HasPrefix(key, "_comment"), e.Value.Kind == lang.NullNode, e.Value.Kind != lang.ScalarNode && len(e.Value.Entries)+len(e.Value.Items) == 0:
		case slices.Contains(without, key):
			c.noteOnce(e.Key, "without "+key, "no counterpart here")
		default:
			c.noteOnce(e.Key, "unknown "+key, "not known: left out")
		}
	}
}

func clip(s string) string {
	if r := []rune(s); len(r) > 60 {
		return string(r[:60]) + "…"
	}
	return s
}

// project reads the document.
func (c *converter) project() {
	f, _ := c.object(c.root, "the project")
	c.out.Project = c.text(f.Take("project"), "project")
	if c.out.Project == "" {
		c.out.Project = strings.TrimSuffix(path.Base(c.o.File), path.Ext(c.o.File))
	}
	data, has := c.object(f.Take("pam_data"), "pam_data")
	if c.root.Kind == lang.MapNode && !has {
		c.Add(f.First(), "missing-key", "there is no pam_data with resources; a project of KeeperPAM has them, as pam project import takes it")
		return
	}
	c.rest(f, "tool_version", "shared_folder_users", "shared_folder_resources", "pam_configuration")
	resources := c.items(data.Take("resources"), "resources")
	for _, n := range c.items(data.Take("users"), "users") {
		if u := c.user(n); u != nil {
			c.users = append(c.users, u)
		}
	}
	c.rest(data)
	for _, n := range resources {
		c.directory(n)
	}
	for _, n := range resources {
		c.resource(n)
	}
	for _, u := range c.users {
		if !u.used {
			c.note(u.node, "this user is on no machine that was taken over: it is left out")
		}
	}
}

// directory reads a pamDirectory, for the accounts that machines refer to.
func (c *converter) directory(n *lang.Node) {
	if !strings.EqualFold(kindOf(n), "pamDirectory") {
		return
	}
	f := c.Map(n, "a directory")
	d := directory{title: c.text(f.Take("title"), "title"), uid: c.text(f.Take("uid"), "uid"), realm: strings.ToUpper(c.text(f.Take("domain_name"), "domain_name"))}
	for _, u := range c.items(f.Take("users"), "users") {
		if u := c.user(u); u != nil {
			u.realm = d.realm
			d.users = append(d.users, u)
		}
	}
	c.directories = append(c.directories, d)
}

// kindOf returns the type of a resource.
func kindOf(n *lang.Node) string {
	if t := n.Get("type"); t != nil {
		return strings.TrimSpace(t.Text)
	}
	return ""
}

// resource reads one resource.
func (c *converter) resource(n *lang.Node) {
	if n.Kind != lang.MapNode {
		c.Add(n, "wrong-type", "a resource must be an object, not %s", n.Kind)
		return
	}
	switch typ := kindOf(n); strings.ToLower(typ) {
	case "pammachine":
		at := c.paths[n]
		if ps := c.skip[at]; len(ps) > 0 {
			for _, p := range c.located(ps) {
				c.note(n, "left out, for something is wrong with it: %s", p.Said())
			}
			return
		}
		before := len(c.Problems)
		docs, used := c.machine(n)
		if errs, _ := c.Problems[before:].Split(); len(errs) > 0 {
			c.wrong[at] = errs
		}
		c.documents = append(c.documents, docs...)
		for _, u := range used {
			u.used = true
		}
	case "pamdirectory":
		c.note(n, "directories are not reached by this runner: only what machines say of them is taken over")
	case "pamdatabase":
		c.note(n, "databases are not reached by this runner: left out")
	case "pamremotebrowser":
		c.note(n, "browser sessions are not opened by this runner: left out")
	default:
		c.note(n, "%s is no type of resource that is known: left out", strconv.QuoteToASCII(clip(typ)))
	}
}

// files puts the documents together.
func (c *converter) files() {
	head := "# yaml-language-server: $schema=schema.json\n# From project " + comment(c.out.Project) + " of KeeperPAM.\n"
	var inventories []string
	for _, key := range slices.Sorted(mapsKeys(c.inventories)) {
		if use := c.inventories[key]; use.text != "" {
			inventories = append(inventories, use.text)
			c.out.Documents = append(c.out.Documents, Document{"inventory", use.name, ""})
		}
	}
	name := "keeper-" + slug(c.out.Project, "project")
	all := pages(head, append(inventories, c.documents...))
	for i, text := range all {
		file := name
		if len(all) > 1 {
			file += "-" + strconv.Itoa(i+1)
		}
		c.out.Files = append(c.out.Files, File{file + ".yaml", text})
	}
}
