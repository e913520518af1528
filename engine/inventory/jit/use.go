package jit

import (
	"fmt"
	"strings"
)

// Slots are the templates that a credential names itself.
type Slots struct{ Create, Elevate bool }

// Use is what carries settings out.
type Use struct {
	Create, Elevate string         // shipped templates; "": none is needed, or the credential's own
	Params          map[string]any // for them: texts, and lists of texts
	// Missing says what no template carries out, and what to do instead.
	Missing string
}

// remoteDesktop is the group without which nobody logs in to Windows from afar.
const remoteDesktop = "S-1-5-32-555"

// Templates returns what carries the settings out on a device of a platform, for
// the slots that the credential leaves open. An account that a shipped template makes
// gets its rights while it is made and loses them with itself; one of an own template,
// and one that exists, is elevated.
func (s Settings) Templates(platform string, own Slots) Use {
	var u Use
	if s.CreateEphemeral && !own.Create {
		if u.Create, u.Missing = s.creates(platform); u.Missing != "" {
			return u
		}
	}
	if !s.Elevate || own.Elevate {
		return u
	}
	name, value, why := s.rights(platform)
	switch {
	case why != "":
		u.Missing = why
	case u.Create != "" && name == "commands":
		u.Params = map[string]any{"sudo": "ALL=(ALL) NOPASSWD: " + strings.Join(value, ", ")}
	case u.Create != "" && platform == Windows:
		u.Params = map[string]any{"groups": append([]string{remoteDesktop}, value...)}
	case u.Create != "":
		u.Params = map[string]any{"groups": value}
	case name == "commands":
		u.Elevate, u.Params = "linux-sudo", map[string]any{name: value}
	default:
		u.Elevate, u.Params = platform+"-group", map[string]any{name: value}
	}
	return u
}

// creates returns the template that makes the account.
func (s Settings) creates(platform string) (name, missing string) {
	const own = "name a template of your own: jit: {create: NAME}"
	switch typ := s.AccountType; {
	case typ == Mac:
		return "", "no shipped template makes accounts on macOS; " + own
	case typ == Domain:
		return "", "no shipped template makes accounts of a domain; " + own
	case (typ == Linux || typ == Windows) && typ != platform:
		return "", fmt.Sprintf("ephemeral_account_type is %s, and the device is %s; write ephemeral_account_type: %s", typ, platform, platform)
	}
	return map[string]string{Linux: "linux-user", Windows: "windows-local-user"}[platform], ""
}

// rights returns what is given: groups or commands.
func (s Settings) rights(platform string) (name string, value []string, missing string) {
	value = s.Elevations()
	switch {
	case s.Method == Role:
		return "", nil, "no shipped template gives roles; name a template of your own: jit: {elevate: NAME}, or write elevation_method: group"
	case s.Method == Sudo && platform == Windows:
		return "", nil, "Windows has no sudo; write elevation_method: group"
	case len(value) == 0 && s.Method == Sudo:
		return "", nil, "elevation_string does not say what to give; write elevation_string: ALL, or commands by full path"
	case len(value) == 0:
		return "", nil, "elevation_string does not say what to give; write the names of groups, such as elevation_string: adm"
	case s.Method != Sudo:
		return "groups", value, ""
	}
	for _, c := range value {
		if c != "ALL" && !strings.HasPrefix(c, "/") {
			return "", nil, fmt.Sprintf("elevation_string has %q, and sudo wants ALL or commands by full path; for groups write elevation_method: group", c)
		}
	}
	return "commands", value, ""
}
