package winrmtest

import (
	"cmp"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"runner/engine/secret"
	"runner/engine/transport/winrm/winrmtest/pseval"
)

var bySID = regexp.MustCompile(`SID='(S-[0-9-]+)'$`)

// instance is Get-CimInstance for the classes that modules read.
func (a *Accounts) instance(c pseval.Call) error {
	sid := ""
	if m := bySID.FindStringSubmatch(named(c, "filter")); m != nil {
		sid = m[1]
	}
	properties := func(kv ...any) error {
		o := &pseval.Object{Properties: map[string]any{}}
		for i := 0; i < len(kv); i += 2 {
			o.Properties[kv[i].(string)] = kv[i+1]
		}
		return c.Output(o)
	}
	switch class := named(c, "classname"); {
	case class == "Win32_OperatingSystem":
		return properties("caption", "Microsoft Windows Server 2022 Standard", "version", "10.0.20348")
	case class == "Win32_ComputerSystem":
		return properties("domain", "corp.example", "domainrole", int64(a.DomainRole))
	case class == "Win32_Service":
		only, filtered := strings.CutPrefix(named(c, "filter"), "Name='")
		for _, name := range slices.Sorted(maps.Keys(a.Services)) {
			if filtered && !strings.EqualFold(name+"'", only) {
				continue
			}
			state := "Stopped"
			if a.Running[name] {
				state = "Running"
			}
			if err := properties("name", name, "startname", a.Services[name], "state", state, "startmode", cmp.Or(a.Startup[name], "Manual")); err != nil {
				return err
			}
		}
		return nil
	case class == "Win32_UserAccount" && sid != "":
		if u := a.user("", sid); u != nil {
			return properties("sid", u.SID, "name", u.Name)
		}
		return nil
	case class == "Win32_UserProfile" && named(c, "filter") == "":
		for _, p := range a.Profiles {
			if err := properties("sid", p.SID, "localpath", p.Path); err != nil {
				return err
			}
		}
		return nil
	case class == "Win32_UserProfile" && sid != "":
		for _, p := range a.Profiles {
			if p.SID == sid {
				return properties("sid", p.SID, "localpath", p.Path, "loaded", p.Loaded, "special", p.Special)
			}
		}
		return nil
	}
	return &pseval.UnsupportedError{What: "the class " + named(c, "classname") + " with the filter " + named(c, "filter")}
}

// tasks is Get-ScheduledTask.
func (a *Accounts) tasks(c pseval.Call) error {
	for _, name := range slices.Sorted(maps.Keys(a.Tasks)) {
		who := &pseval.Object{Properties: map[string]any{"userid": a.Tasks[name]}}
		i := strings.LastIndexByte(name, '\\') + 1
		if err := c.Output(&pseval.Object{Properties: map[string]any{"principal": who, "taskpath": name[:i], "taskname": name[i:]}}); err != nil {
			return err
		}
	}
	return nil
}

// unregister is Unregister-ScheduledTask.
func (a *Accounts) unregister(c pseval.Call) error {
	o, _ := c.Named["inputobject"].(*pseval.Object)
	if o == nil {
		return &pseval.UnsupportedError{What: "Unregister-ScheduledTask without a task"}
	}
	delete(a.Tasks, fmt.Sprint(o.Properties["taskpath"])+fmt.Sprint(o.Properties["taskname"]))
	return nil
}

// removeFolder is rd of cmd.exe.
func (a *Accounts) removeFolder(c pseval.Call) error {
	words := fmt.Sprint(c.Args...)
	path, _ := c.Args[len(c.Args)-1].(string)
	if len(c.Args) != 6 || !strings.HasPrefix(words, "/d/crd/s/q") {
		return &pseval.UnsupportedError{What: "cmd.exe " + words}
	}
	if a.held[path] {
		return nil
	}
	below := func(p string) bool { return p == path || strings.HasPrefix(p, path+`\`) }
	maps.DeleteFunc(a.paths, func(p string, _ bool) bool { return below(p) })
	maps.DeleteFunc(a.Files, func(p, _ string) bool { return below(p) })
	return nil
}

// folders is Get-ChildItem of the folder of profiles.
func (a *Accounts) folders(c pseval.Call) error {
	for _, path := range slices.Sorted(maps.Keys(a.paths)) {
		name, ok := strings.CutPrefix(path, named(c, "literalpath")+`\`)
		if !ok || strings.Contains(name, `\`) {
			continue
		}
		if err := c.Output(&pseval.Object{Properties: map[string]any{"name": name, "fullname": path}}); err != nil {
			return err
		}
	}
	return nil
}

func inputSID(c pseval.Call) string {
	o, _ := c.Named["inputobject"].(*pseval.Object)
	if o == nil {
		return ""
	}
	sid, _ := o.Properties["sid"].(string)
	return sid
}

// associated is Get-CimAssociatedInstance over Win32_GroupUser.
func (a *Accounts) associated(c pseval.Call) error {
	if named(c, "association") != "Win32_GroupUser" {
		return &pseval.UnsupportedError{What: "the association " + named(c, "association")}
	}
	for _, g := range a.Groups {
		if slices.Contains(g.Members, inputSID(c)) {
			if err := c.Output(g.object()); err != nil {
				return err
			}
		}
	}
	return nil
}

// removeInstance is Remove-CimInstance of a profile.
func (a *Accounts) removeInstance(c pseval.Call) error {
	sid := inputSID(c)
	for i, p := range a.Profiles {
		if p.SID != sid {
			continue
		}
		if p.Loaded {
			return &pseval.ThrownError{ID: "HRESULT 0x80070020,Microsoft.Management.Infrastructure.CimCmdlets.RemoveCimInstanceCommand", Message: "The process cannot access the file because it is being used by another process."}
		}
		a.Profiles = slices.Delete(a.Profiles, i, i+1)
		delete(a.paths, profileList+sid)
		if p.Stuck {
			a.held[p.Path] = true
		} else {
			delete(a.paths, p.Path)
		}
		return nil
	}
	return &pseval.ThrownError{ID: "HRESULT 0x80041002,RemoveCimInstanceCommand", Message: "Not found"}
}

// processes is Get-Process -IncludeUserName.
func (a *Accounts) processes(c pseval.Call) error {
	for _, p := range a.Processes {
		o := &pseval.Object{Properties: map[string]any{
			"id": int64(p.ID), "sessionid": int64(p.Session), "processname": p.Name, "username": a.Computer + `\` + p.User,
		}}
		if err := c.Output(o); err != nil {
			return err
		}
	}
	return nil
}

func (a *Accounts) stop(c pseval.Call) error {
	id, _ := c.Named["id"].(int64)
	a.end(func(p *Process) bool { return int64(p.ID) == id })
	return nil
}

// logOff ends the programs of a session.
func (a *Accounts) logOff(c pseval.Call) error {
	id, _ := c.Args[0].(string)
	a.end(func(p *Process) bool { return id == strconv.Itoa(p.Session) && !p.Stubborn })
	return nil
}

// end ends programs; a profile of which nothing runs is unloaded.
func (a *Accounts) end(which func(*Process) bool) {
	a.Processes = slices.DeleteFunc(a.Processes, which)
	for _, p := range a.Profiles {
		u := a.user("", p.SID)
		p.Loaded = u != nil && slices.ContainsFunc(a.Processes, func(x *Process) bool { return x.User == u.Name })
	}
}

// testLogon is Test-WSMan with a credential.
func (a *Accounts) testLogon(c pseval.Call) error {
	cred, ok := c.Named["credential"].(*pseval.Object)
	if !ok {
		return &pseval.UnsupportedError{What: "Test-WSMan without a credential"}
	}
	name, _ := cred.Properties["username"].(string)
	password, _ := cred.Properties["password"].(secret.Value)
	u := a.user(strings.TrimPrefix(name, a.Computer+`\`), "")
	if u == nil || !u.Enabled || u.Password != password.Reveal() || !u.Expires.IsZero() && u.Expires.Before(a.Now) {
		return &pseval.ThrownError{ID: "WsManError,Microsoft.WSMan.Management.TestWSManCommand", Message: "The user name or password is incorrect."}
	}
	return c.Output(&pseval.Object{})
}
