package module_test

import (
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"runner/engine/module"
	"runner/engine/transport"
	"runner/engine/transport/winrm/winrmtest"
	"runner/engine/transport/winrm/winrmtest/pscheck"
)

func TestWindowsFacts(t *testing.T) {
	t.Parallel()
	h := windowsHost(t)
	h.DomainRole = 5
	want := map[string]string{
		"hostname": "WIN1", "os": "Microsoft Windows Server 2022 Standard", "version": "10.0.20348", "domain": "corp.example", "domain_role": "5", "administrator": "true", "controller": "true",
		"powershell": "5.1.20348.1", "language_mode": "FullLanguage", "user": `corp\runner`, "local_accounts": "true", "clock": "1795262400", "pending_reboot": "false", "pending": "",
	}
	if d := cmp.Diff(want, h.ok(t, "win_facts", nil).out); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

// Whatever cmdlet fails, the step fails with its words.
func TestWindowsCmdletsThatFail(t *testing.T) {
	t.Parallel()
	for _, cmdlet := range []string{"get-localuser", "new-localuser", "remove-localuser", "get-localgroup", "add-localgroupmember", "get-ciminstance"} {
		t.Run(cmdlet, func(t *testing.T) {
			t.Parallel()
			h := windowsHost(t)
			h.Fail = map[string]error{cmdlet: winrmtest.Denied(cmdlet)}
			failed := 0
			for _, c := range []struct {
				name string
				args module.Args
			}{
				{"win_user", newUser("jit-abc")},
				{"win_group_member", module.Args{"user": "jit-abc", "groups": []string{"S-1-5-32-544"}}},
				{"win_user_info", module.Args{"name": "jit-abc"}},
				{"win_user", module.Args{"name": "jit-abc", "description": "runner g-1", "state": "absent"}},
			} {
				if r := h.do(t, transport.Apply, c.name, c.args); r.rc != 0 {
					if failed++; failed == 1 && !strings.Contains(r.stderr, "Access to "+cmdlet+" is denied") {
						t.Errorf("%s: %s", c.name, r.stderr)
					}
				}
			}
			if failed == 0 {
				t.Error("nobody noticed")
			}
		})
	}
}

// A return code is no proof: what did not happen is noticed.
func TestWindowsCmdletsThatLie(t *testing.T) {
	t.Parallel()
	h := windowsHost(t)
	h.Mute = map[string]bool{"new-localuser": true}
	h.fails(t, "is not there after its creation", "win_user", newUser("jit-abc"))
	h.Mute = nil
	for parameter, want := range map[string]string{"description": "the description of jit-abc was not stored", "accountexpires": "the expiry of jit-abc was not stored"} {
		h.Forget = map[string]bool{parameter: true}
		if r := h.do(t, transport.Apply, "win_user", newUser("jit-abc")); r.rc == 0 || !strings.Contains(r.stderr, want) || !strings.HasPrefix(r.state(0), "sid=") {
			t.Errorf("%s: %+v", parameter, r)
		}
		h.Forget = nil
		h.ok(t, "win_user", module.Args{"name": "jit-abc", "sid": h.User("jit-abc").SID, "state": "absent"})
	}
	h.ok(t, "win_user", newUser("jit-abc"))
	h.ok(t, "win_group", module.Args{"name": "jit ops", "description": "runner"})
	h.Mute = map[string]bool{"remove-localuser": true, "disable-localuser": true, "add-localgroupmember": true, "remove-localgroup": true, "new-localgroup": true, "remove-ciminstance": true}
	sid := h.User("jit-abc").SID
	h.LogOn("jit-abc", 1).Loaded = false
	h.fails(t, "jit-abc is still there", "win_user", module.Args{"name": "jit-abc", "sid": sid, "state": "absent"})
	h.fails(t, "is not disabled", "win_user", module.Args{"name": "jit-abc", "exists": "update", "locked": true})
	h.fails(t, "did not change", "win_group_member", module.Args{"user": "jit-abc", "groups": []string{"jit ops"}})
	h.fails(t, "jit ops is still there", "win_group", module.Args{"name": "jit ops", "description": "runner", "state": "absent"})
	h.fails(t, "is not there after its creation", "win_group", module.Args{"name": "jit more"})
	h.fails(t, "is still there", "win_profile", module.Args{"sid": sid, "state": "absent"})
}

func TestWindowsArguments(t *testing.T) {
	t.Parallel()
	reg, err := module.Windows()
	if err != nil {
		t.Fatal(err)
	}
	for want, c := range map[string]struct {
		module string
		args   module.Args
	}{
		"no name of a local account":  {"win_user", module.Args{"name": "a name with blanks"}},
		"2 to 20":                     {"win_user", module.Args{"name": "jit-23456789012345678901"}},
		"no SID":                      {"win_user", module.Args{"name": "jit-abc", "sid": "500"}},
		"Windows takes 48":            {"win_user", module.Args{"name": "jit-abc", "description": strings.Repeat("x", 49)}},
		"must be a time in UTC":       {"win_user", module.Args{"name": "jit-abc", "expires": "2026-11-21"}},
		"one line":                    {"win_user", module.Args{"name": "jit-abc", "description": "a\nb"}},
		"one of name, sid is needed":  {"win_sessions", module.Args{"name": "", "sid": ""}},
		"one of user, sid is needed":  {"win_group_member", module.Args{"user": "", "sid": "", "groups": []string{"x"}}},
		"neither the name of a local": {"win_group_member", module.Args{"user": "jit-abc", "groups": []string{"Admin*"}}},
		"no name of a local group":    {"win_group", module.Args{"name": "a[b]"}},
		"creates must be an absolute": {"powershell", module.Args{"creates": `x\y`}},
		"removes must be an absolute": {"win_command", module.Args{"removes": `C:\x\..\y`}},
		"no name of a service":        {"win_service", module.Args{"name": "a'b"}},
		"path must be an absolute":    {"win_file", module.Args{"path": `C:\a*`}},
		"no path of a task":           {"win_scheduled_task", module.Args{"path": "nightly"}},
		"one of sid, name is needed":  {"win_profile", module.Args{"name": "", "sid": ""}},
		"argv is empty":               {"win_command", module.Args{"argv": []string{}}},
		"is no SID":                   {"win_profile", module.Args{"sid": "S-1-5' OR ''='"}},
	} {
		if err := reg.Lookup(c.module).Check(c.args); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s %v: %v, want %q", c.module, c.args, err, want)
		}
	}
	if err := reg.Lookup("win_sessions").Check(module.Args{"sid": ""}); err != nil {
		t.Errorf("what only the device knows yet: %v", err)
	}
}

// The bodies are PowerShell, as far as a grammar can tell, and use nothing that
// ConstrainedLanguage forbids or that puts a secret where others see it.
func TestWindowsBodiesArePowerShell(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("ps/*.ps1")
	if err != nil || len(files) < 9 {
		t.Fatalf("%d bodies: %v", len(files), err)
	}
	sources := map[string]string{}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		sources[f] = string(b)
		for _, word := range []string{
			"Add-Type", "Invoke-Expression", "iex ", "[scriptblock]", "[System.", "[Reflection", "::new(", "New-Object -Com", "ConvertTo-SecureString", "AsPlainText", "{{", "`",
			"net user", "net.exe", "Start-Process", "Write-Host", "$script:", "exit",
		} {
			if strings.Contains(string(b), word) && (f != "ps/lib_run.ps1" || word != "[scriptblock]" && word != "Invoke-Expression") {
				t.Errorf("%s uses %s", f, word)
			}
		}
	}
	pscheck.Check(t, sources)
}

// Scripts of authors get their values as variables, each its own.
func TestWindowsScripts(t *testing.T) {
	t.Parallel()
	h := windowsHost(t)
	script := func(text string, more module.Args) module.Args {
		a := module.Args{"script": text}
		maps.Copy(a, more)
		return a
	}
	r := h.ok(t, "powershell", script("'a'; @('b'; 2)\nif ($true) { \"it is $($_r1)\" }", module.Args{"_r1": "'; exit; $(x)"}))
	if !r.changed || r.stderr != "a\nb\n2\nit is '; exit; $(x)\n" {
		t.Errorf("a script: %+v", r)
	}
	if r := h.ok(t, "powershell", script(`"<$($_r1)>"`, nil)); r.stderr != "<>\n" {
		t.Errorf("a value of an earlier step: %+v", r)
	}
	h.fails(t, "on purpose", "powershell", script("throw 'on purpose'", nil))
	if r := h.do(t, transport.Apply, "powershell", script("$global:LASTEXITCODE = 7", nil)); r.rc != 7 {
		t.Errorf("a program that failed: %+v", r)
	}
	for _, mode := range []transport.Mode{transport.Probe, transport.Check} {
		if r := h.do(t, mode, "powershell", script("throw 'x'", nil)); r.rc != 0 || r.changed != (mode == transport.Check) {
			t.Errorf("%s: %+v", mode, r)
		}
	}
	h.ok(t, "win_user", newUser("jit-abc"))
	h.LogOn("jit-abc", 1)
	here, there := `C:\Users\jit-abc`, `C:\Users\nobody`
	for _, c := range []struct {
		more    module.Args
		changed bool
	}{{module.Args{"creates": here}, false}, {module.Args{"creates": there}, true}, {module.Args{"removes": here}, true}, {module.Args{"removes": there}, false}} {
		if r := h.ok(t, "powershell", script("'x'", c.more)); r.changed != c.changed {
			t.Errorf("%v: %+v", c.more, r)
		}
		c.more["argv"] = []string{"whoami.exe"}
		if r := h.ok(t, "win_command", c.more); r.changed != c.changed || c.changed != strings.Contains(r.stderr, `corp\runner`) {
			t.Errorf("%v: %+v", c.more, r)
		}
	}
	env := module.Args{"env": "JIT_A PUBLIC", "_e1": "'; exit; $(x)", "_e2": ""}
	if r := h.ok(t, "powershell", script("\"<$env:JIT_A|$env:PUBLIC>\"", env)); r.stderr != "<'; exit; $(x)|>\n" {
		t.Errorf("an environment: %+v", r)
	}
	h.ok(t, "win_command", module.Args{"argv": []string{"whoami.exe"}, "env": "JIT_A", "_e1": "x"})
	h.Folder(`C:\jit`)
	for _, c := range []struct {
		path, want, state string
		changed, fails    bool
	}{{`C:\jit`, "present", "present", false, false}, {`C:\no`, "absent", "absent", false, false}, {`C:\jit`, "absent", "present", true, true}, {`C:\no`, "present", "absent", true, true}} {
		for name, args := range map[string]module.Args{"powershell": script("'x'", nil), "win_command": {"argv": []string{"whoami.exe"}}} {
			maps.Copy(args, module.Args{"_probe": "$global:LASTEXITCODE = 3\nTest-Path -LiteralPath \"$_probe1\"", "_probe1": c.path, "_want": c.want})
			if r := h.do(t, transport.Apply, name, args); r.changed != c.changed || (r.rc != 0) != c.fails || r.state(0) != c.state {
				t.Errorf("%s, %+v: %+v", name, c, r)
			}
			if r := h.do(t, transport.Probe, name, args); r.rc != 0 || r.changed || r.state(0) != c.state {
				t.Errorf("probe of %s, %+v: %+v", name, c, r)
			}
		}
	}
	h.fails(t, "say True or False, and said: x", "powershell", script("'y'", module.Args{"_probe": "'x'", "_want": "present"}))
	h.fails(t, "is not recognized", "win_command", module.Args{"argv": []string{"nothing.exe", "a b", "$(c)"}})
}

// Nothing that bears the account's name or SID is missed, and nothing is left
// when all of it is gone.
func TestWindowsSurface(t *testing.T) {
	t.Parallel()
	h := windowsHost(t)
	look := func(sid string) []string {
		t.Helper()
		r := h.ok(t, "win_surface", module.Args{"name": "jit-abc", "sid": sid})
		if r.out["clock"] != "1795262400" || r.changed {
			t.Errorf("the surface is %+v", r)
		}
		if r.out["items"] == "" {
			return nil
		}
		return strings.Split(strings.ReplaceAll(r.out["items"], "\t", " "), "\n")
	}
	h.Folder(`C:\Users\jit-`)
	if got := look(""); got != nil {
		t.Errorf("before: %q", got)
	}
	h.ok(t, "win_user", newUser("jit-abc"))
	h.ok(t, "win_user", newUser("jit-abcd"))
	h.LogOn("jit-abcd", 3)
	h.Folder(`C:\Users\jit-abc.WIN1`)
	sid := h.User("jit-abc").SID
	h.ok(t, "win_group_member", module.Args{"user": "jit-abc", "groups": []string{"S-1-5-32-555"}})
	p := h.LogOn("jit-abc", 2)
	h.Services = map[string]string{"spooler": "LocalSystem", "jitsvc": `.\jit-abc`, "other": `WIN1\jit-abc`}
	h.Tasks = map[string]string{`\jit\nightly`: "jit-abc", `\Microsoft\x`: "SYSTEM", `\by-sid`: sid}
	all := []string{
		"account jit-abc:sid=" + sid, "member S-1-5-32-555", `profile C:\Users\jit-abc`, "profile-list " + sid, `folder C:\Users\jit-abc`, `folder C:\Users\jit-abc.WIN1`, "process 101 explorer",
		"service jitsvc", "service other", `task \by-sid`, `task \jit\nightly`,
	}
	if d := cmp.Diff(all, look("")); d != "" {
		t.Errorf("what bears the name (-want +got):\n%s", d)
	}
	h.ok(t, "win_sessions", module.Args{"name": "jit-abc", "state": "absent"})
	p.Stuck = true
	h.do(t, transport.Apply, "win_profile", module.Args{"sid": sid, "state": "absent"})
	h.ok(t, "win_user", module.Args{"name": "jit-abc", "sid": sid, "state": "absent"})
	h.Services, h.Tasks = nil, nil
	left := []string{"member S-1-5-32-555", `folder C:\Users\jit-abc`, `folder C:\Users\jit-abc.WIN1`}
	if d := cmp.Diff(left, look(sid)); d != "" {
		t.Errorf("what is left (-want +got):\n%s", d)
	}
	h.Groups[2].Orphaned = true
	left[0] = "unreadable members of S-1-5-32-555"
	if d := cmp.Diff(left, look(sid)); d != "" {
		t.Errorf("what cannot be read (-want +got):\n%s", d)
	}
}
