package jit

import (
	"fmt"
	"slices"
	"strings"
)

// Policies say when settings are used.
const (
	Required = "required" // at every launch
	OptIn    = "opt_in"   // only when it is asked for
)

// Record is what decides about the launch of a credential.
type Record struct {
	Name       string
	Settings   Settings
	Policy     string // Required or OptIn
	SupplyHost bool   // allow_supply_host
	SupplyUser bool   // allow_supply_user
	Linked     string // credential of the account that is there already; "": none
	LinkedUID  string // of its record
	// Missing says why the settings cannot be carried out here, and what to do;
	// "": they can.
	Missing string
}

// Asked are the flags of a launch.
type Asked struct {
	JIT        bool   // -j
	Credential string // -cr
	Host       string // -H
	HostRecord string // -hr
}

// Way is whose account and host a launch is about.
type Way string

// Ways, the first that can be taken is taken.
const (
	SuppliedHost Way = "supplied host"
	JustInTime   Way = "just in time"
	SuppliedUser Way = "supplied user"
	LinkedUser   Way = "linked"
)

// RefusedError says why a launch cannot be, and what to change.
type RefusedError struct {
	Reason, Change string
	// Record tells that the credential is not whole, whatever is asked for.
	Record bool
}

// Error returns the reason and what to change.
func (e *RefusedError) Error() string { return e.Reason + ": " + e.Change }

// Decide returns the way of a launch. Errors: *RefusedError.
func Decide(r Record, a Asked) (Way, error) {
	if err := together(r, a); err != nil {
		return "", err
	}
	switch {
	case a.Host != "" || a.HostRecord != "":
		return SuppliedHost, nil
	case a.JIT || r.Policy == Required && r.Settings.Mode() != None:
		if err := possible(r); err != nil {
			return "", err
		}
		return JustInTime, nil
	case a.Credential != "":
		return SuppliedUser, nil
	case r.Linked != "":
		return LinkedUser, nil
	}
	return "", alone(r)
}

// together checks flags against each other and against what the record allows.
func together(r Record, a Asked) error {
	given := supplied(a)
	required := !a.JIT && r.Policy == Required && r.Settings.Mode() != None
	switch {
	case a.JIT && len(given) > 0:
		return &RefusedError{Reason: "-j makes the account of the session itself and cannot be combined with " + words(given), Change: "leave out -j, or " + words(given)}
	case a.Host != "" && a.HostRecord != "":
		return &RefusedError{Reason: "-H and -hr both say which host is meant", Change: "leave one of them out"}
	case a.JIT && r.SupplyHost:
		return &RefusedError{Reason: fmt.Sprintf("credential %s allows a supplied host, which goes before -j", r.Name), Change: "take allow_supply_host out of it, or launch without -j and say the host with -H or -hr"}
	case a.JIT && r.Settings.Mode() == None:
		return &RefusedError{Reason: fmt.Sprintf("credential %s has no just-in-time settings", r.Name), Change: "write jit_settings: {create_ephemeral: true} or jit: {create: linux-user} into it, or launch without -j"}
	case required && len(given) > 0:
		return &RefusedError{Reason: fmt.Sprintf("credential %s has policy required: the account of the session is made for it, which cannot be combined with %s", r.Name, words(given)), Change: "leave out " + words(given) + ", or write jit: {policy: opt_in} into it"}
	case (a.Host != "" || a.HostRecord != "") && !r.SupplyHost:
		return &RefusedError{Reason: fmt.Sprintf("credential %s does not allow a supplied host", r.Name), Change: "leave out " + words(slices.DeleteFunc(given, func(f string) bool { return f == "-cr" })) + ", or write allow_supply_host: true into it"}
	case a.Credential != "" && !r.SupplyUser && !r.SupplyHost:
		return &RefusedError{Reason: fmt.Sprintf("credential %s does not allow a supplied user", r.Name), Change: "leave out -cr, or write allow_supply_user: true into it"}
	case (a.Host != "" || a.HostRecord != "") && a.Credential == "" && r.Linked == "":
		return &RefusedError{Reason: "a supplied host needs an account on it, and none is linked", Change: "add -cr CREDENTIAL, or write linked: CREDENTIAL into credential " + r.Name}
	}
	return nil
}

// possible checks what the settings need.
func possible(r Record) error {
	s := r.Settings
	switch {
	case s.CreateEphemeral && s.AccountType == Domain && s.Directory == "":
		return &RefusedError{Record: true, Reason: fmt.Sprintf("credential %s makes accounts of a domain and does not say of which", r.Name), Change: "write pam_directory_uid_ref: UID into its jit_settings, or another ephemeral_account_type"}
	case s.Mode() == Elevation && r.Linked == "":
		return &RefusedError{Record: true, Reason: fmt.Sprintf("credential %s elevates the linked account, and none is linked", r.Name), Change: "write linked: CREDENTIAL into it, or create_ephemeral: true into its jit_settings"}
	case r.Missing != "":
		return &RefusedError{Record: true, Reason: fmt.Sprintf("credential %s asks for what cannot be given here", r.Name), Change: r.Missing}
	}
	return nil
}

// alone is the refusal when nothing says whose account it is.
func alone(r Record) error {
	change := "write linked: CREDENTIAL into it"
	if r.SupplyUser || r.SupplyHost {
		change = "say whose account with -cr CREDENTIAL, or " + change
	}
	if r.Settings.Mode() != None && !r.SupplyHost {
		change = "add -j for an account of the session, or " + change
	}
	return &RefusedError{Reason: fmt.Sprintf("nothing says with which account credential %s is launched", r.Name), Change: change}
}

// supplied returns the flags that supply a host or an account.
func supplied(a Asked) []string {
	var given []string
	for _, f := range []struct{ flag, value string }{{"-cr", a.Credential}, {"-H", a.Host}, {"-hr", a.HostRecord}} {
		if f.value != "" {
			given = append(given, f.flag)
		}
	}
	return given
}

func words(flags []string) string { return strings.Join(flags, " and ") }

// Sent is a launch in the words of KeeperPAM.
type Sent struct {
	CredentialType string         `json:"credentialType"`
	UserRecordUID  string         `json:"userRecordUid,omitempty"`
	JITSettings    map[string]any `json:"jitSettings,omitempty"`
	JITElevation   map[string]any `json:"jitElevation,omitempty"`
}

// Plan returns what is said of a launch that goes the way.
func (r Record) Plan(w Way) Sent {
	switch w {
	case JustInTime:
		s := Sent{CredentialType: "ephemeral"}
		if r.Settings.CreateEphemeral {
			s.JITSettings = r.Settings.only(ephemeralKeys)
		} else {
			s.CredentialType, s.UserRecordUID = "linked", r.LinkedUID
		}
		if r.Settings.Elevate {
			s.JITElevation = r.Settings.only(elevationKeys)
		}
		return s
	case LinkedUser:
		return Sent{CredentialType: "linked", UserRecordUID: r.LinkedUID}
	case SuppliedHost, SuppliedUser:
	}
	return Sent{CredentialType: "userSupplied"}
}

// only returns some keys of the settings, without those that say nothing.
func (s Settings) only(keys []string) map[string]any {
	all := map[string]any{
		"create_ephemeral": s.CreateEphemeral, "ephemeral_account_type": s.AccountType, "base_distinguished_name": s.BaseDN, "pam_directory_uid_ref": s.Directory,
		"elevate": s.Elevate, "elevation_method": s.Method, "elevation_string": s.Elevation,
	}
	out := map[string]any{}
	for _, k := range keys {
		if v := all[k]; v != "" && v != false {
			out[k] = v
		}
	}
	return out
}
