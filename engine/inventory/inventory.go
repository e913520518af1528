// Package inventory owns the YAML of the folder inventories/: inventories (how
// to connect), devices (where) and credentials (who and what). Loading is
// checking: strict, all problems at once, with positions and suggestions. It
// refuses to connect and to read secrets: it only says where they are.
package inventory

import (
	"time"

	"runner/engine/inventory/jit"
	"runner/engine/lang"
)

// Inventory is a connection profile: how devices are reached.
type Inventory struct {
	Name      string
	Transport string   // ssh or winrm
	Methods   []string // allowed, in order: certificate, publickey, agent, password, keyboard-interactive
	Port      int      // a device's own port wins
	Become    Become
	Jump      []Hop  // outermost first
	SOCKS5    string // host:port, with transport winrm
	WinRM     WinRM
	Kerberos  Kerberos
	HostKeys  HostKeys
	Timeouts  Timeouts
	Pos       lang.Pos
}

// Become says how steps get the rights of another account.
type Become struct {
	Method   string  // sudo (default) or none
	Password *Source // nil: the login password if there is one, else sudo must not ask
}

// Hop is a jump host (ProxyJump).
type Hop struct {
	Device     string // name of a device
	Credential string // credential whose authentication logs in there; empty: the same as for the device
}

// HostKeys says which host keys are accepted.
type HostKeys struct {
	Policy     string // strict (default) or trust_on_first_use
	KnownHosts string // file; default state/known_hosts of the workspace. Keys of the device document always count.
}

// Timeouts bound what the other side may take.
type Timeouts struct {
	Dial time.Duration // name, TCP, key exchange and authentication together; default 15s
	Step time.Duration // default for steps; default 60s
	Keep time.Duration // keepalive interval; default 15s
}

// Device is where accounts live.
type Device struct {
	Name      string
	Address   string
	Port      int // 0: the inventory's
	Platform  string
	Inventory string // default for credentials
	Tags      []string
	HostKeys  []string // "ssh-ed25519 AAAA…" or "SHA256:…" fingerprints
	UIDs      UIDRange // default 70000-99999
	// Certificate is a SHA-256 in lower-case hexadecimal digits.
	Certificate string
	SPN         string
	Additional  map[string]any // additional_information
	Pos         lang.Pos
}

// UIDRange is the range from which accounts on a device get their uids.
type UIDRange struct{ First, Last int64 }

// Credential points at templates and says who may use them where.
type Credential struct {
	Name      string
	Device    string
	Inventory string
	// Account is the pattern of account names: a template string with {{ id }}
	// (ten random base32 characters). Default jit-{{ id }}. When JIT changes an
	// account that exists it is that one: a text, or a template string of requester.
	Account     *lang.Value
	AccountText string
	Password    string // generated (default), none: a key pair is used instead
	Domain      string // upper-cased with a notice
	UseKerberos bool
	Additional  map[string]any // additional_information, a JSON object
	Auth        Auth
	// MaxConcurrent is how many jobs may log in by it at once; 0: any number.
	MaxConcurrent int
	Requesters    []string // user names, or @group; empty: operators only
	JIT           JIT
	Settings      *jit.Settings          // jit_settings; nil without
	Workflow      *jit.Workflow          // nil without
	Linked        string                 // credential of the account that is there already
	RecordUID     string                 // of KeeperPAM
	SupplyHost    bool                   // allow_supply_host
	SupplyUser    bool                   // allow_supply_user
	Params        map[string]*lang.Value // for the templates
	Pos           lang.Pos

	slots  map[string]*lang.Node // where the templates of JIT are named
	params map[string]lang.Entry // where Params are written
}

// Auth is how runner itself logs in to do the work.
type Auth struct {
	User       string
	Credential string  // authenticate as another credential does; User and Secret are empty then
	Secret     *Source // nil with method agent
}

// Source says where a secret is. It never holds one.
type Source struct {
	File    string   `json:"file,omitempty"`    // 0600 and owned by the caller or root
	Command []string `json:"command,omitempty"` // its standard output, one trailing newline removed
	Keytab  string   `json:"keytab,omitempty"`
	CCache  string   `json:"ccache,omitempty"`
	Agent   string   `json:"agent,omitempty"` // socket, or "env" for SSH_AUTH_SOCK
	// Kind of what File or Command gives: password (default), private_key
	Kind string `json:"kind,omitempty"`
	// Certificate is a file with an OpenSSH certificate that belongs to the key.
	Certificate string `json:"certificate,omitempty"`
	// Passphrase opens an encrypted private key.
	Passphrase *Source `json:"passphrase_from,omitempty"`
}

// JIT holds the just-in-time settings of a credential.
type JIT struct {
	Enabled     bool
	Type        string        // create_delete (default) or elevate, group_membership, enable_disable
	MaxDuration time.Duration // default 8h
	Duration    time.Duration // default 1h
	Margin      time.Duration // backstop on the device is expiry plus this; default 15m
	Create      string
	Delete      string
	Elevate     string
	Revert      string
	Policy      string        // required or opt_in, for launches
	Recording   string        // of sessions: RecordOutput (default), RecordInput or RecordNothing
	EndWhenIdle time.Duration // without a session of the account on the device; 0: never
	// Missing says what of jit_settings no template carries out, and what to do.
	Missing string
	// OwnCredential says that the account elevates itself by its own login.
	OwnCredential bool
}

// Creates reports whether a grant gets an account of its own.
func (j JIT) Creates() bool { return j.Type == "" || j.Type == createDelete }

// What is recorded of sessions.
const (
	RecordOutput  = "output"
	RecordInput   = "input" // output too
	RecordNothing = "none"
)

// Set is everything the folder holds, checked against itself.
type Set struct {
	Inventories map[string]*Inventory
	Devices     map[string]*Device
	Credentials map[string]*Credential
	// Notices are things that were put right silently otherwise, such as a
	// realm written in lower case.
	Notices []lang.Problem
}
