package module

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"runner/engine/lang"
)

// Windows returns the registry of the modules that templates for Windows may call.
func Windows() (*Registry, error) {
	ms, err := windowsModules()
	if err != nil {
		return nil, err
	}
	return NewRegistry(append(ms, assert(), setFact(), debug(), fail(), revert())...)
}

func windowsModules() ([]*Module, error) {
	ms := []*Module{
		winFacts(), winUser(), winUserInfo(), winEnable(), winGroup(), winGroupMember(), winProfile(), winSessions(), winLogonCheck(), winScheduledTask(), winService(), winFile(), winCopy(), powershell(), winCommand(), winSurface(), winMarks(),
	}
	lib := library{}
	for _, file := range []string{"ps/lib.ps1", "ps/lib_run.ps1"} {
		rest, err := lib.read(file)
		if err != nil {
			return nil, err
		}
		if rest != "" {
			return nil, fmt.Errorf("module: %s does more than define: %s", file, rest)
		}
	}
	var err error
	for _, m := range ms {
		m.Platform, m.library = "windows", lib
		if m.Ps, err = lib.read("ps/" + m.Name + ".ps1"); err != nil {
			return nil, err
		}
	}
	for _, m := range ms {
		m.calls = lib.naming(m.Ps)
	}
	for _, d := range lib {
		d.calls = lib.naming(d.text)
	}
	return ms, nil
}

var (
	winName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,18}[A-Za-z0-9_-]$`)
	sid     = regexp.MustCompile(`^S-1-[0-9]+(-[0-9]+){1,14}$`)
)

// winGroupName tells a name that Get-LocalGroup does not take for a pattern. A
// regexp of these classes would take 7 ms of every start of the program.
func winGroupName(n string) bool {
	for i, r := range n {
		if !unicode.In(r, unicode.L, unicode.N) && (i == 0 || !strings.ContainsRune(" ._-", r)) {
			return false
		}
	}
	return n != "" && utf8.ValidString(n) && utf8.RuneCountInString(n) <= 256
}

// checkWinName refuses names that Windows would not give to an account.
func checkWinName(a Args, arg string) error {
	if n := a.String(arg); has(a, arg) && !winName.MatchString(n) {
		return fmt.Errorf("%s %q is no name of a local account; one has 2 to 20 letters, digits, dots, hyphens and underscores, begins with a letter or digit and does not end with a dot%s", arg, n, tooLong(n, 20))
	}
	return nil
}

func checkSID(a Args) error {
	if s := a.String("sid"); has(a, "sid") && !sid.MatchString(s) {
		return fmt.Errorf("sid %q is no SID; one looks like S-1-5-21-1004336348-1177238915-682003330-1001", s)
	}
	return nil
}

// checkWinGroup refuses what is neither a name of a local group nor a SID.
func checkWinGroup(name string) error {
	if !sid.MatchString(name) && !winGroupName(name) {
		return fmt.Errorf("%q is neither the name of a local group nor a SID such as S-1-5-32-544", name)
	}
	return nil
}

// checkWinTime refuses what is no UTC time to the second, and no word.
func checkWinTime(a Args, arg string, words ...string) error {
	s := a.String(arg)
	if s == "" || slices.Contains(words, s) {
		return nil
	}
	if _, err := time.Parse("2006-01-02T15:04:05Z", s); err != nil {
		return fmt.Errorf("%s %q must be a time in UTC such as 2026-11-21T12:00:00Z, or %s", arg, s, strings.Join(words, " or "))
	}
	return nil
}

// checkShort refuses texts that Windows cuts or refuses.
func checkShort(a Args, arg string, limit int) error {
	if s := a.String(arg); len([]rune(s)) > limit {
		return fmt.Errorf("%s has %d characters, Windows takes %d", arg, len([]rune(s)), limit)
	}
	return nil
}

// checkOne refuses calls that name nothing.
func checkOne(a Args, args ...string) error {
	for _, arg := range args {
		if _, known := a[arg]; !known || has(a, arg) { // not known yet, or given
			return nil
		}
	}
	return errors.New("one of " + strings.Join(args, ", ") + " is needed")
}

var (
	winNameField = Field{Name: "name", Type: lang.String, Required: true, Doc: "account name, at most 20 characters", Example: "'{{ params.username }}'"}
	winSIDField  = Field{Name: "sid", Type: lang.String, Default: "", Doc: "SID of the account", Example: "'{{ created.outputs.sid }}'"}
)

// winFacts reads what kind of device this is.
func winFacts() *Module {
	return &Module{
		Name:     "win_facts",
		Summary:  "Read what kind of Windows this is: versions, role, clock, language mode, pending reboot",
		Examples: []string{"name: Look at the host\nregister: host\nwin_facts:"},
		ReadOnly: true,
		Outputs: []Field{
			{Name: "hostname", Type: lang.String, Doc: "name of the computer"},
			{Name: "os", Type: lang.String, Doc: "name of the system, in its language"},
			{Name: "version", Type: lang.String, Doc: "its version, such as 10.0.20348"},
			{Name: "domain", Type: lang.String, Doc: "domain or workgroup"},
			{Name: "domain_role", Type: lang.Int, Doc: "0 to 3: workstation or server, alone or member; 4 and 5: domain controller"},
			{Name: "controller", Type: lang.Bool, Doc: "it is a domain controller, which has no local accounts"},
			{Name: "powershell", Type: lang.String, Doc: "version of PowerShell"},
			{Name: "language_mode", Type: lang.String, Doc: "FullLanguage or ConstrainedLanguage"},
			{Name: "user", Type: lang.String, Doc: "account that the steps run as"},
			{Name: "administrator", Type: lang.Bool, Doc: "they run with the rights of an administrator"},
			{Name: "local_accounts", Type: lang.Bool, Doc: "the cmdlets for local accounts are there"},
			{Name: "clock", Type: lang.Int, Doc: "the device's clock, seconds since 1970"},
			{Name: "pending_reboot", Type: lang.Bool, Doc: "Windows waits for a reboot"},
			{Name: "pending", Type: listOf, Doc: "what for: components, updates, files"},
		},
	}
}

// winUserInfo reads what there is of an account and changes nothing.
func winUserInfo() *Module {
	return &Module{
		Name:    "win_user_info",
		Summary: "Read what there is of a local account, by name or by SID",
		Examples: []string{
			"name: Look at the account\nregister: who\nwin_user_info: '{{ params.username }}'",
		},
		ReadOnly: true,
		Free:     "name",
		Args: []Field{
			{Name: "name", Type: lang.String, Default: "", Doc: "account name", Example: "'{{ params.username }}'"},
			winSIDField,
			{Name: "description", Type: lang.String, Default: "", Doc: "what the description must be for the account to be the one meant, as long as no sid is known", Example: "runner {{ grant.id }}"},
		},
		Outputs: []Field{
			{Name: "exists", Type: lang.Bool, Doc: "the account is there"},
			{Name: "conflict", Type: lang.Bool, Doc: "it is not the one meant: the name has another SID, the SID another name, or without sid the description is another one"},
			{Name: "name", Type: lang.String, Doc: "its name"},
			{Name: "sid", Type: lang.String, Doc: "its SID; the one asked for when it is not there"},
			{Name: "enabled", Type: lang.Bool, Doc: "it is not disabled"},
			{Name: "description", Type: lang.String, Doc: "its description"},
			{Name: "full_name", Type: lang.String, Doc: "its full name"},
			{Name: "expires", Type: lang.String, Doc: "never, or the UTC time from which it is expired; empty when it is not there"},
			{Name: "last_logon", Type: lang.String, Doc: "UTC time of the last logon; empty when there was none"},
			{Name: "groups", Type: listOf, Doc: "SIDs of the local groups it is in"},
			{Name: "profile", Type: lang.String, Doc: "folder of its profile; empty before the first logon"},
			{Name: "logged_in", Type: lang.Bool, Doc: "its profile is in use"},
		},
		Check: func(a Args) error {
			return first(checkOne(a, "name", "sid"), checkWinName(a, "name"), checkSID(a))
		},
	}
}

// winSurface lists everything on a device that bears the name or the SID of a
// local account: before a creation, and as the proof of a removal.
func winSurface() *Module {
	return &Module{
		Name:     "win_surface",
		Summary:  "List everything on the device that bears the name or the SID of a local account",
		Examples: []string{"name: List what bears its name\nregister: left\nwin_surface: {name: '{{ grant.account }}', sid: '{{ created.outputs.sid }}'}"},
		ReadOnly: true,
		Args: []Field{
			winNameField,
			{Name: "sid", Type: lang.String, Default: "", Doc: "SID of the account, when it is known; else that of the account of the name", Example: "'{{ created.outputs.sid }}'"},
		},
		Outputs: []Field{
			{Name: "items", Type: listOf, Doc: "what was found: kind, tab, what. Accounts, groups, memberships, profile, folders, programs, services, tasks"},
			{Name: "sid", Type: lang.String, Doc: "the SID that was looked for; empty when there is none"},
			{Name: "clock", Type: lang.Int, Doc: "the device's clock, seconds since 1970"},
		},
		Check: func(a Args) error { return first(checkWinName(a, "name"), checkSID(a)) },
	}
}

// winLogonCheck finds out whether a password works.
func winLogonCheck() *Module {
	return &Module{
		Name:    "win_logon_check",
		Summary: "Check that a local account can log on, by one network logon at the device's own WinRM service",
		Examples: []string{
			"name: The password works\nregister: logon\nwin_logon_check: {name: '{{ params.username }}', password: '{{ params.password }}'}\nfailed_when: not logon.valid",
		},
		ReadOnly: true,
		Args: []Field{
			winNameField,
			{Name: "password", Type: lang.Secret, Required: true, Doc: "its password; a wrong one counts as a failed logon", Example: "'{{ params.password }}'"},
		},
		Outputs: []Field{
			{Name: "valid", Type: lang.Bool, Doc: "the logon succeeded"},
			{Name: "reason", Type: lang.String, Doc: "what Windows said when it did not, in its language"},
		},
		Check: func(a Args) error { return checkWinName(a, "name") },
	}
}
