package winrmtest

import (
	"cmp"
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"runner/engine/secret"
	"runner/engine/transport/winrm/winrmtest/pseval"
)

// Account is a local account.
type Account struct {
	Name, SID, Description, FullName string
	Enabled, FixedPassword           bool
	Password                         string
	Expires, LastLogon               time.Time // zero: never
}

// Group is a local group. Members are SIDs.
type Group struct {
	Name, SID, Description string
	Members                []string
	// Orphaned groups have a member whose domain cannot be asked: listing them fails.
	Orphaned bool
}

// Profile is a user profile.
type Profile struct {
	SID, Path       string
	Loaded, Special bool
	// Stuck profiles lose their entry but keep their folder: a file is in use.
	Stuck bool
}

// Process is a program of an account.
type Process struct {
	ID, Session int
	Name, User  string // the name of the account
	// Stubborn ones do not end with their session.
	Stubborn bool
}

// Accounts is a model of a Windows account database, which refuses what Windows
// refuses. Fields are read and written by tests while no batch runs.
type Accounts struct {
	Computer string
	Machine  string // the SID of the machine
	// MinPassword is the shortest password; a password has three of four classes.
	MinPassword int
	DomainRole  int
	Users       []*Account
	Services    map[string]string // who they run as, by name
	Running     map[string]bool   // services that run, by name
	Startup     map[string]string // how services start, by name; Manual when there is nothing
	Files       map[string]string // contents, by path
	Tasks       map[string]string // likewise, by path and name
	Groups      []*Group
	Profiles    []*Profile
	Processes   []*Process
	Now         time.Time
	// Fail makes a cmdlet fail, by its lower-case name; Mute ones do nothing and
	// say nothing; what is in Forget is not stored, by the name of the parameter.
	Fail         map[string]error
	Mute, Forget map[string]bool
	// Before and After are called around each cmdlet; ctx ends with the pipeline.
	// May be nil.
	Before, After func(ctx context.Context, cmdlet string)
	// Ordinary says that who logs in is no administrator.
	Ordinary bool

	mu     sync.Mutex
	nextID int
	paths  map[string]bool // folders and keys
	held   map[string]bool // folders of which a file is in use until a reboot
}

// NewAccounts returns the database of a fresh server.
func NewAccounts(computer string) *Accounts {
	a := &Accounts{
		Computer: computer, Machine: "S-1-5-21-1004336348-1177238915-682003330", MinPassword: 8, DomainRole: 3, nextID: 1000,
		Now: time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC), paths: map[string]bool{}, held: map[string]bool{},
	}
	a.Users = []*Account{{Name: "Administrator", SID: a.Machine + "-500", Enabled: true}, {Name: "Guest", SID: a.Machine + "-501"}}
	a.Groups = []*Group{
		{Name: "Administratoren", SID: "S-1-5-32-544", Members: []string{a.Machine + "-500"}},
		{Name: "Benutzer", SID: "S-1-5-32-545"},
		{Name: "Remotedesktopbenutzer", SID: "S-1-5-32-555"},
	}
	return a
}

// User returns an account by name, or nil.
func (a *Accounts) User(name string) *Account {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.user(name, "")
}

// LogOn makes the profile of an account, as its first logon does.
func (a *Accounts) LogOn(name string, session int) *Profile {
	a.mu.Lock()
	defer a.mu.Unlock()
	u := a.user(name, "")
	p := &Profile{SID: u.SID, Path: `C:\Users\` + name, Loaded: true}
	a.Profiles = append(a.Profiles, p)
	a.paths[p.Path], a.paths[profileList+u.SID] = true, true
	a.Processes = append(a.Processes, &Process{ID: 100 + len(a.Processes), Session: session, Name: "explorer", User: name})
	u.LastLogon = a.Now
	return p
}

// Folder makes a folder.
func (a *Accounts) Folder(path string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.paths[path] = true
}

// Reboot lets go of files.
func (a *Accounts) Reboot() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.held = map[string]bool{}
	a.end(func(*Process) bool { return true })
}

const profileList = `HKLM:\SOFTWARE\Microsoft\Windows NT\CurrentVersion\ProfileList\`

func (a *Accounts) has(path string) bool {
	if a == nil {
		return false
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	_, file := a.Files[path]
	return file || a.paths[path]
}

func (a *Accounts) user(name, sid string) *Account {
	for _, u := range a.Users {
		if sid != "" && u.SID == sid || sid == "" && strings.EqualFold(u.Name, name) {
			return u
		}
	}
	return nil
}

func (a *Accounts) group(name, sid string) *Group {
	for _, g := range a.Groups {
		if sid != "" && g.SID == sid || sid == "" && strings.EqualFold(g.Name, name) {
			return g
		}
	}
	return nil
}

func thrown(id, format string, args ...any) error {
	return &pseval.ThrownError{ID: id + ",Microsoft.PowerShell.Commands.LocalAccounts", Message: fmt.Sprintf(format, args...)}
}

// add adds the cmdlets to those of a host.
func (a *Accounts) add(to map[string]hostCommand) {
	for name, f := range map[string]func(pseval.Call) error{
		"get-localuser": a.getUser, "new-localuser": a.newUser, "set-localuser": a.setUser, "remove-localuser": a.removeUser,
		"enable-localuser": a.enable(true), "disable-localuser": a.enable(false),
		"get-localgroup": a.getGroup, "new-localgroup": a.newGroup, "remove-localgroup": a.removeGroup,
		"get-localgroupmember": a.members, "add-localgroupmember": a.join, "remove-localgroupmember": a.leave,
		"get-ciminstance": a.instance, "get-cimassociatedinstance": a.associated, "remove-ciminstance": a.removeInstance,
		"get-scheduledtask": a.tasks, "stop-scheduledtask": func(pseval.Call) error { return nil }, "unregister-scheduledtask": a.unregister, "cmd.exe": a.removeFolder,
		"get-childitem": a.folders, "split-path": func(c pseval.Call) error { return c.Output(`C:\Users`) },
		"set-service": a.setService, "start-service": a.runService(true), "stop-service": a.runService(false),
		"test-path": a.testPath, "new-item": a.newFolder, "remove-item": a.removeItem, "get-content": a.content, "set-content": a.setContent, "get-filehash": a.hash,
		"get-process": a.processes, "stop-process": a.stop, "logoff.exe": a.logOff, "test-wsman": a.testLogon,
		"get-command": func(c pseval.Call) error { return c.Output(&pseval.Object{}) },
		"whoami.exe":  a.whoAmI,
		"get-date":    func(c pseval.Call) error { return c.Output(a.Now) },
	} {
		before := to[name]
		to[name] = func(ctx context.Context, c pseval.Call) error {
			if first, _, _, _ := a.hooks(name); first != nil {
				first(ctx, name)
			}
			if err := ctx.Err(); err != nil { // what was ended does nothing more
				return err
			}
			_, last, err, mute := a.hooks(name)
			if err != nil || mute {
				return err
			}
			if before != nil && !a.knows(c) { // of the host itself
				return before(ctx, c)
			}
			if last != nil {
				defer last(ctx, name)
			}
			a.mu.Lock()
			defer a.mu.Unlock()
			return f(c)
		}
	}
}

// hooks are what a test wants of a cmdlet.
func (a *Accounts) hooks(name string) (before, after func(ctx context.Context, cmdlet string), fail error, mute bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.Before, a.After, a.Fail[name], a.Mute[name]
}

// Set changes the fields of a while cmdlets may run.
func (a *Accounts) Set(change func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	change()
}

// knows reports whether a call is about programs of accounts.
func (a *Accounts) knows(c pseval.Call) bool {
	_, users := c.Named["includeusername"]
	path := cmp.Or(named(c, "literalpath"), named(c, "path"))
	if users || strings.HasPrefix(path, `C:\`) {
		return true
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	id, _ := c.Named["id"].(int64)
	return slices.ContainsFunc(a.Processes, func(p *Process) bool { return int64(p.ID) == id })
}

func named(c pseval.Call, name string) string {
	switch v := c.Named[name].(type) {
	case nil:
		return ""
	case string:
		return v
	case secret.Value:
		return v.Reveal()
	default:
		return fmt.Sprint(v)
	}
}

// object is what Get-LocalUser returns.
func (u *Account) object() *pseval.Object {
	at := func(t time.Time) any {
		if t.IsZero() {
			return nil
		}
		return t
	}
	return &pseval.Object{Properties: map[string]any{
		"name": u.Name, "sid": u.SID, "description": u.Description, "fullname": u.FullName, "enabled": u.Enabled,
		"accountexpires": at(u.Expires), "lastlogon": at(u.LastLogon),
	}}
}

func (a *Accounts) getUser(c pseval.Call) error {
	if named(c, "name") == "" && named(c, "sid") == "" {
		for _, u := range a.Users {
			if err := c.Output(u.object()); err != nil {
				return err
			}
		}
		return nil
	}
	u, err := a.theUser(c)
	if err != nil {
		return err
	}
	return c.Output(u.object())
}

// theUser finds the account that a call is about.
func (a *Accounts) theUser(c pseval.Call) (*Account, error) {
	if u := a.user(named(c, "name"), named(c, "sid")); u != nil {
		return u, nil
	}
	return nil, thrown("UserNotFound", "User %s was not found.", named(c, "name")+named(c, "sid"))
}

var badName = regexp.MustCompile(`["/\\\[\]:;|=,+*?<>@]|^[. ]*$`)

func (a *Accounts) newUser(c pseval.Call) error {
	name := named(c, "name")
	switch {
	case utf8.RuneCountInString(name) > 20 || utf8.RuneCountInString(named(c, "description")) > 48:
		return thrown("ParameterArgumentValidationError", "Cannot validate argument: the character length is too long.")
	case badName.MatchString(name) || strings.EqualFold(name, a.Computer):
		return thrown("InvalidName", "The name %s is invalid.", name)
	case a.user(name, "") != nil:
		return thrown("UserExists", "User %s already exists.", name)
	case a.group(name, "") != nil:
		return thrown("NameInUse", "The name %s is in use.", name)
	}
	u := &Account{Name: name, Enabled: true}
	if err := a.apply(u, c); err != nil {
		return err
	}
	a.nextID++
	u.SID = fmt.Sprintf("%s-%d", a.Machine, a.nextID)
	a.Users = append(a.Users, u)
	return c.Output(u.object())
}

// apply sets what a call names.
func (a *Accounts) apply(u *Account, c pseval.Call) error {
	for key, v := range c.Named {
		if a.Forget[key] {
			continue
		}
		switch key {
		case "password":
			p := named(c, "password")
			if !a.strong(p) {
				return thrown("InvalidPassword", "Unable to update the password. The value provided for the new password does not meet the length, complexity, or history requirements of the domain.")
			}
			u.Password = p
		case "description":
			u.Description = named(c, key)
		case "fullname":
			u.FullName = named(c, key)
		case "accountexpires":
			t, ok := v.(time.Time)
			if !ok {
				return thrown("ParameterBindingError", "Cannot bind parameter AccountExpires.")
			}
			u.Expires = t
		case "accountneverexpires":
			u.Expires = time.Time{}
		case "usermaynotchangepassword":
			u.FixedPassword = true
		case "disabled":
			u.Enabled = false
		case "name", "sid", "passwordneverexpires":
		default:
			return &pseval.UnsupportedError{What: "the parameter " + key}
		}
	}
	return nil
}

// strong reports whether the password policy takes p.
func (a *Accounts) strong(p string) bool {
	classes := map[string]bool{}
	for _, r := range p {
		switch {
		case unicode.IsUpper(r):
			classes["upper"] = true
		case unicode.IsLower(r):
			classes["lower"] = true
		case unicode.IsDigit(r):
			classes["digit"] = true
		default:
			classes["other"] = true
		}
	}
	return utf8.RuneCountInString(p) >= a.MinPassword && len(classes) >= 3
}

func (a *Accounts) setUser(c pseval.Call) error {
	u, err := a.theUser(c)
	if err != nil {
		return err
	}
	return a.apply(u, c)
}

func (a *Accounts) removeUser(c pseval.Call) error {
	u, err := a.theUser(c)
	if err != nil {
		return err
	}
	if strings.HasSuffix(u.SID, "-500") {
		return thrown("CannotRemoveBuiltIn", "Cannot run this operation on built-in accounts.")
	}
	a.Users = slices.DeleteFunc(a.Users, func(x *Account) bool { return x == u })
	return nil
}

func (a *Accounts) enable(to bool) func(pseval.Call) error {
	return func(c pseval.Call) error {
		u, err := a.theUser(c)
		if err == nil {
			u.Enabled = to
		}
		return err
	}
}

func (g *Group) object() *pseval.Object {
	return &pseval.Object{Properties: map[string]any{"name": g.Name, "sid": g.SID, "description": g.Description}}
}

func (a *Accounts) theGroup(c pseval.Call) (*Group, error) {
	if g := a.group(named(c, "name"), named(c, "sid")); g != nil {
		return g, nil
	}
	return nil, thrown("GroupNotFound", "Group %s was not found.", named(c, "name")+named(c, "sid"))
}

func (a *Accounts) getGroup(c pseval.Call) error {
	if len(c.Named) == 0 {
		for _, g := range a.Groups {
			if err := c.Output(g.object()); err != nil {
				return err
			}
		}
		return nil
	}
	g, err := a.theGroup(c)
	if err != nil {
		return err
	}
	return c.Output(g.object())
}

func (a *Accounts) newGroup(c pseval.Call) error {
	name := named(c, "name")
	if a.group(name, "") != nil || a.user(name, "") != nil {
		return thrown("GroupExists", "Group %s already exists.", name)
	}
	a.nextID++
	g := &Group{Name: name, SID: fmt.Sprintf("%s-%d", a.Machine, a.nextID), Description: named(c, "description")}
	a.Groups = append(a.Groups, g)
	return c.Output(g.object())
}

func (a *Accounts) removeGroup(c pseval.Call) error {
	g, err := a.theGroup(c)
	if err != nil {
		return err
	}
	if strings.HasPrefix(g.SID, "S-1-5-32-") {
		return thrown("CannotRemoveBuiltIn", "Cannot run this operation on built-in groups.")
	}
	a.Groups = slices.DeleteFunc(a.Groups, func(x *Group) bool { return x == g })
	return nil
}

func (a *Accounts) members(c pseval.Call) error {
	g, err := a.theGroup(c)
	if err != nil {
		return err
	}
	if g.Orphaned {
		return &pseval.ThrownError{ID: "NotSpecified,Microsoft.PowerShell.Commands.GetLocalGroupMemberCommand", Message: "Failed to compare two elements in the array."}
	}
	for _, sid := range g.Members {
		if err := c.Output(&pseval.Object{Properties: map[string]any{"sid": sid}}); err != nil {
			return err
		}
	}
	return nil
}

func (a *Accounts) join(c pseval.Call) error {
	g, err := a.theGroup(c)
	if err != nil {
		return err
	}
	sid := named(c, "member")
	switch {
	case slices.Contains(g.Members, sid):
		return thrown("MemberExists", "%s is already a member of group %s.", sid, g.Name)
	case a.user("", sid) == nil && strings.HasPrefix(sid, a.Machine):
		return thrown("PrincipalNotFound", "Principal %s was not found.", sid)
	}
	g.Members = append(g.Members, sid)
	return nil
}

func (a *Accounts) leave(c pseval.Call) error {
	g, err := a.theGroup(c)
	if err != nil {
		return err
	}
	i := slices.Index(g.Members, named(c, "member"))
	if i < 0 {
		return thrown("MemberNotFound", "Member %s was not found in group %s.", named(c, "member"), g.Name)
	}
	g.Members = slices.Delete(g.Members, i, i+1)
	return nil
}

// whoAmI is whoami.exe, alone and with /groups.
func (a *Accounts) whoAmI(c pseval.Call) error {
	if len(c.Args) == 0 {
		return c.Output(`corp\runner`)
	}
	if label := `"Mandatory Label\High Mandatory Level","Label","S-1-16-12288",""`; !a.Ordinary {
		return c.Output(label)
	}
	return c.Output(`"Mandatory Label\Medium Mandatory Level","Label","S-1-16-8192",""`)
}

// Denied is what a cmdlet says to who may not use it.
func Denied(cmdlet string) error {
	return thrown("AccessDenied", "Access to %s is denied.", cmdlet)
}
