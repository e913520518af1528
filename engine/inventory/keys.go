package inventory

import (
	"time"

	"runner/engine/inventory/jit"
	"runner/engine/lang"
)

// Everything that documents of the folder inventories may hold. A new key is a
// line here beside its line in the loader; a test fails when one of them is
// missing.

var (
	textOrMap = lang.Either(lang.FixedText, lang.Shape{Kind: lang.NamesShape, Of: &lang.Anything, Pattern: "."})
	anyCase   = lang.Either(lang.Flag, lang.Shape{Kind: lang.TextShape, Words: []string{"true", "false"}, Pattern: "^([Tt][Rr][Uu][Ee]|[Ff][Aa][Ll][Ss][Ee])$"})
	where     = lang.MapBy("secret_from")
)

// Tables describes the documents and the maps in them.
func Tables() []*lang.Table {
	return append([]*lang.Table{
		&inventoryTable, &becomeTable, &jumpTable, &hostKeysTable, &timeoutsTable, &winrmTable, &kerberosTable,
		&deviceTable, &uidsTable, &credentialTable, &authTable, &jitTable, &sourceTable,
	}, jit.Tables()...)
}

var (
	schemaKey = lang.Key{Name: "schema", Is: lang.OneWord("runner/v1"), Need: true, Doc: "the language of the document; always the first key", Example: "schema: runner/v1"}
	kindKey   = lang.Key{Name: "kind", Is: lang.OneWord("inventory", "device", "credential"), Need: true, Doc: "what the document is", Example: "kind: device"}
)

var inventoryTable = lang.Table{Name: "inventory", Doc: "How devices are reached", Keys: []lang.Key{
	schemaKey, kindKey,
	{Name: "name", Is: lang.FixedText, Need: true, Doc: "what credentials and devices call it", Example: "name: Linux-DMZ"},
	{Name: "transport", Is: lang.OneWord("ssh", "winrm"), Need: true, Doc: "the protocol: ssh for Linux, winrm for Windows", Example: "transport: ssh"},
	{Name: "methods", Is: lang.Each(lang.OneWord("certificate", "publickey", "agent", "password", "keyboard-interactive")), Default: "[publickey]", Doc: "ssh: allowed logins, in this order; what is not listed is never tried", Example: "methods: [publickey, agent]"},
	{Name: "port", Is: lang.Whole(1, 65535), Else: "22 for ssh; for winrm 5985, over https 5986", Doc: "a device's own port wins", Example: "port: 2222"},
	{Name: "become", Is: lang.MapBy("become"), Doc: "ssh: how steps get another account's rights", Example: "become: {method: sudo}"},
	{Name: "jump", Is: lang.Each(lang.MapBy("jump")), Doc: "jump hosts, outermost first; they are reached over ssh, and with winrm they carry the connections to the KDC, too", Example: "jump: [{device: bastion, credential: bastion-admin}]"},
	{Name: "socks5", Is: lang.FixedText, Doc: "winrm: a SOCKS5 proxy without login that carries the connections to the device and to the KDC", Example: "transport: winrm\nsocks5: connector.example.com:1080"},
	{Name: "host_keys", Is: lang.MapBy("host_keys"), Doc: "ssh: which host keys are accepted", Example: "host_keys: {policy: strict}"},
	{Name: "winrm", Is: lang.MapBy("winrm"), Doc: "winrm: what is spoken with the device", Example: "transport: winrm\nwinrm: {shell: psrp, scheme: https}"},
	{Name: "kerberos", Is: lang.MapBy("kerberos"), Doc: "winrm: where tickets come from", Example: "transport: winrm\nkerberos: {realm: CORP.EXAMPLE, kdcs: [dc1.corp.example]}"},
	{Name: "timeouts", Is: lang.MapBy("timeouts"), Doc: "what the other side may take", Example: "timeouts: {dial: 15s, step: 60s, keepalive: 15s}"},
}}

var becomeTable = lang.Table{Name: "become", Doc: "How steps get another account's rights", Keys: []lang.Key{
	{Name: "method", Is: lang.OneWord("sudo", "none"), Default: "sudo", Doc: "by sudo, or not at all", Example: "method: sudo"},
	{Name: "password_from", Is: where, Else: "the login password if there is one; else sudo must not ask", Doc: "where the password for sudo is", Example: "password_from: {file: /etc/runner/sudo-password}"},
}}

var jumpTable = lang.Table{Name: "jump", Doc: "A jump host; it is reached by the inventory of its own device, or by this one", Keys: []lang.Key{
	{Name: "device", Is: lang.FixedText, Need: true, Doc: "name of a device", Example: "device: bastion"},
	{Name: "credential", Is: lang.FixedText, Else: "that of the device", Doc: "credential whose `authentication` logs in to the jump host", Example: "device: bastion\ncredential: bastion-admin"},
}}

var hostKeysTable = lang.Table{Name: "host_keys", Doc: "Which host keys are accepted", Keys: []lang.Key{
	{Name: "policy", Is: lang.OneWord("strict", "trust_on_first_use"), Default: "strict", Doc: "strict: only known keys. trust_on_first_use: the first key seen is noted in known_hosts, another one later ends the connection", Example: "policy: strict"},
	{Name: "known_hosts", Is: lang.FixedText, Else: "state/known_hosts of the workspace", Doc: "a file in OpenSSH's format; keys of the device document always count, too", Example: "known_hosts: /etc/runner/known_hosts"},
}}

var timeoutsTable = lang.Table{Name: "timeouts", Doc: "What the other side may take", Keys: []lang.Key{
	{Name: "dial", Is: lang.Within(time.Second, 10*time.Minute), Default: "15s", Doc: "name, TCP, key exchange and login together", Example: "dial: 30s"},
	{Name: "step", Is: lang.Within(time.Second, 24*time.Hour), Default: "60s", Doc: "for steps whose template sets none", Example: "step: 5m"},
	{Name: "keepalive", Is: lang.Within(time.Second, 10*time.Minute), Default: "15s", Doc: "pause between two questions whether the device is still there", Example: "keepalive: 15s"},
}}

var winrmTable = lang.Table{Name: "winrm", Doc: "What is spoken with a Windows device", Keys: []lang.Key{
	{Name: "shell", Is: lang.OneWord("psrp", "cmd"), Default: "psrp", Doc: "psrp: runspaces of PowerShell, for every host since Server 2016. cmd: one process of powershell.exe for a batch, which reads its values from standard input; for hosts whose endpoints of PowerShell are closed", Example: "shell: psrp"},
	{Name: "scheme", Is: lang.OneWord("http", "https"), Default: "http", Doc: "over http every message is sealed by Kerberos; a plain body is never sent", Example: "scheme: https"},
	{Name: "auth", Is: lang.OneWord("kerberos", "basic"), Default: "kerberos", Doc: "how runner logs in; basic only over https, and for local accounts. One is never tried in place of the other, and NTLM not at all", Example: "scheme: https\nauth: basic"},
	{Name: "configuration", Is: lang.FixedText, Else: "Microsoft.PowerShell", Doc: "psrp: the endpoint, such as a JEA endpoint of your own", Example: "configuration: runner.jit"},
	{Name: "ca_file", Is: lang.FixedText, Else: "the authorities that this machine trusts", Doc: "https: certificates of the authorities that sign those of devices, as PEM", Example: "scheme: https\nca_file: /etc/runner/corp-ca.pem"},
	{Name: "operation_timeout", Is: lang.Within(time.Second, 10*time.Minute), Default: "20s", Doc: "how long the device may keep a question open before it says that there is nothing yet", Example: "operation_timeout: 20s"},
	{Name: "max_envelope_kb", Is: lang.Whole(32, 8192), Default: "150", Doc: "the largest message; not more than MaxEnvelopeSizekb of the device, which is 500 since Server 2012", Example: "max_envelope_kb: 500"},
}}

var kerberosTable = lang.Table{Name: "kerberos", Doc: "Where tickets come from", Keys: []lang.Key{
	{Name: "realm", Is: lang.FixedText, Else: "`domain` of the credential", Doc: "the realm of runner's own account; read in upper case", Example: "realm: CORP.EXAMPLE"},
	{Name: "kdcs", Is: lang.Each(lang.FixedText), Else: "`KDC` of `additional_information`, then krb5_conf, then the SRV records of the realm", Doc: "domain controllers, host or host:port, asked in this order", Example: "kdcs: [dc1.corp.example, 'dc2.corp.example:88']"},
	{Name: "krb5_conf", Is: lang.FixedText, Doc: "a file with realms and domain_realm; nothing else of it is read", Example: "krb5_conf: /etc/krb5.conf"},
	{Name: "service", Is: lang.OneWord("HTTP", "WSMAN", "HOST"), Else: "HTTP, then WSMAN, then HOST, whichever the realm knows", Doc: "first word of the device's principal; WSMAN where the account of a web server holds HTTP", Example: "service: WSMAN"},
}}

var deviceTable = lang.Table{Name: "device", Doc: "Where accounts live", Keys: []lang.Key{
	schemaKey, kindKey,
	{Name: "name", Is: lang.FixedText, Need: true, Doc: "what credentials call it", Example: "name: web-2"},
	{Name: "address", Is: lang.FixedText, Need: true, Doc: "host name or IP address, nothing else", Example: "address: web-1.example.com"},
	{Name: "port", Is: lang.Whole(1, 65535), Else: "the inventory's", Doc: "port of the transport", Example: "port: 2222"},
	{Name: "platform", Is: lang.OneWord("linux", "windows"), Default: "linux", Doc: "the templates for it must be of the same platform; windows needs an inventory with transport winrm", Example: "platform: linux"},
	{Name: "inventory", Is: lang.FixedText, Doc: "for credentials that name none, and when it is a jump host", Example: "inventory: Linux-SSH"},
	{Name: "tags", Is: lang.Each(lang.FixedText), Doc: "words of your own", Example: "tags: [edge, prod]"},
	{Name: "host_keys", Is: lang.Each(lang.FixedText), Doc: "`ssh-ed25519 AAAA…` as in the .pub file, or fingerprints `SHA256:…`", Example: "host_keys: ['SHA256:u8bTFJzTGD8jXGIjBnbqlVzq4wDVbLrHf7oXzV8vWEs']"},
	{Name: "uids", Is: lang.MapBy("uids"), Doc: "linux: the uids for accounts of grants", Example: "uids: {first: 70000, last: 99999}"},
	{Name: "certificate", Is: lang.FixedText, Doc: "windows over https: SHA-256 of the certificate that is accepted whoever signed it, 64 hexadecimal digits with or without colons", Example: "platform: windows\ncertificate: '3A:7B:D3:E2:36:0A:3D:29:EE:A4:36:FC:FB:7E:44:C7:35:D1:17:C4:2D:1C:18:35:42:0B:6B:99:42:DD:4F:1B'"},
	{Name: "spn", Is: lang.FixedText, Else: "`service` and the address", Doc: "windows: the principal that the device answers as", Example: "platform: windows\nspn: HTTP/win-1.corp.example"},
	{Name: "additional_information", Is: textOrMap, Doc: "as of a credential, for all credentials of the device; `KDC` is the domain controller to ask", Example: "platform: windows\nadditional_information: '{\"KDC\": \"dc1.corp.example\"}'"},
}}

var uidsTable = lang.Table{Name: "uids", Doc: "The uids for accounts of grants", Keys: []lang.Key{
	{Name: "first", Is: lang.Whole(1000, 1<<32-2), Default: "70000", Doc: "the first one", Example: "first: 70000"},
	{Name: "last", Is: lang.Whole(1000, 1<<32-2), Default: "99999", Doc: "the last one; a used uid rests for 400 days, so the range limits how many accounts a device can have in that time", Example: "last: 89999"},
}}

var credentialTable = lang.Table{Name: "credential", Doc: "Who may have which access, and how runner logs in to give it", Keys: []lang.Key{
	schemaKey, kindKey,
	{Name: "name", Is: lang.FixedText, Need: true, Doc: "what people request", Example: "name: web-ops"},
	{Name: "device", Is: lang.FixedText, Need: true, Doc: "name of a device", Example: "device: web-1"},
	{Name: "inventory", Is: lang.FixedText, Else: "the device's", Doc: "name of an inventory", Example: "inventory: Linux-SSH"},
	{Name: "account", Is: lang.ValueOf(lang.String), Default: defaultAccount, Doc: "account names; `{{ id }}` is ten random characters a-z and 2-7. At most 20 characters in all, lower-case letters, digits, `.`, `_` and `-`, starting with a letter. When jit changes an account that exists, its name: a text, or `'{{ requester }}'` where people have their own", Example: "account: ops-{{ id }}"},
	{Name: "password", Is: lang.OneWord("generated", "none"), Default: "generated", Doc: "how the account's password is made: generated, or none when the requester brings a key", Example: "password: none"},
	{Name: "domain", Is: lang.FixedText, Doc: "Kerberos realm; read in upper case", Example: "domain: EXAMPLE.COM"},
	{Name: "USE_KERBEROS", Is: anyCase, Default: "false", Doc: "needs `domain`; true refuses inventories with another login than Kerberos, and has no effect with transport ssh", Example: "domain: EXAMPLE.COM\nUSE_KERBEROS: \"false\""},
	{Name: "additional_information", Is: textOrMap, Doc: "a map, or a JSON object in a text; handed on as it is. `KDC` is the domain controller to ask", Example: "additional_information: '{\"site\": \"north\"}'"},
	{Name: "authentication", Is: lang.MapBy("authentication"), Need: true, Doc: "how runner logs in to do the work", Example: "authentication:\n  user: runner\n  secret_from: {file: /etc/runner/key, kind: private_key}"},
	{Name: "max_concurrent", Is: lang.Whole(1, 10000), Else: "any number", Doc: "how many jobs may log in by it at once, also those of credentials whose `authentication` names it. On one device there is always one at a time", Example: "max_concurrent: 8"},
	{Name: "requesters", Is: lang.Each(lang.FixedText), Else: "operators only", Doc: "user names, and `@group`", Example: "requesters: [alice, '@dba']"},
	{Name: "jit", Is: lang.MapBy("jit"), Else: "nobody can request it", Doc: "the just-in-time access it gives", Example: "jit: {create: linux-user, duration: 1h, max_duration: 8h}"},
	{Name: "jit_settings", Is: lang.Either(lang.MapBy("jit_settings"), lang.Shape{Kind: lang.NamesShape, Of: &lang.Anything, Pattern: "."}), Doc: "the same in the words of KeeperPAM; what `jit` says goes before it", Example: "jit_settings: {create_ephemeral: true, ephemeral_account_type: linux}"},
	{Name: "linked", Is: lang.FixedText, Doc: "credential whose `authentication` is the account that is there already: launched without just-in-time access, and the one that is elevated", Example: "linked: web-admin"},
	{Name: "record_uid", Is: lang.FixedText, Doc: "uid of the record in KeeperPAM", Example: "record_uid: 9x2mPqLr3TzVbN5cWdYk1Q"},
	{Name: "allow_supply_host", Is: lang.Flag, Default: "false", Doc: "a launch may say another host, and then nothing is given just in time", Example: "allow_supply_host: true"},
	{Name: "allow_supply_user", Is: lang.Flag, Default: "false", Doc: "a launch may say another account", Example: "allow_supply_user: true"},
	{Name: "workflow", Is: lang.MapBy("workflow"), Doc: "what a grant has to wait for", Example: "workflow: {require_reason: true, access_duration: 8h}"},
	{Name: "params", Is: lang.Named(lang.ValueOf(lang.Any)), Doc: "values for the params of the templates: they beat the template's defaults, and a request beats them", Example: "params: {shell: /bin/bash}"},
}}

var authTable = lang.Table{Name: "authentication", Doc: "How runner logs in to do the work: user with secret_from, or credential", Keys: []lang.Key{
	{Name: "user", Is: lang.FixedText, Doc: "account on the device; with Kerberos one of the domain, with or without @REALM", Example: "user: runner\nsecret_from: {file: /etc/runner/key, kind: private_key}"},
	{Name: "secret_from", Is: where, Doc: "where its secret is; not needed with the method agent", Example: "user: runner\nsecret_from: {file: /etc/runner/password}"},
	{Name: "credential", Is: lang.FixedText, Doc: "instead of both: log in as another credential does", Example: "credential: web-admin"},
}}

var jitTable = lang.Table{Name: "jit", Doc: "The just-in-time access that a credential gives", Keys: []lang.Key{
	{Name: "enabled", Is: lang.Flag, Default: "true", Doc: "false: nobody can request it now", Example: "enabled: false"},
	{Name: "type", Is: lang.OneWord("create_delete", "elevate", "group_membership", "enable_disable"), Default: "create_delete", Doc: "create_delete makes an account for the grant and removes it; elevate, group_membership and enable_disable change the one that `account` names, and put it back. create_delete with elevate does both", Example: "type: create_delete\ncreate: linux-user"},
	{Name: "policy", Is: lang.OneWord(jit.Required, jit.OptIn), Else: "required; opt_in with `jit_settings`", Doc: "required: every launch makes or elevates an account. opt_in: only one with `-j`", Example: "policy: opt_in\ncreate: linux-user"},
	{Name: "duration", Is: lang.Within(time.Second, longest), Default: "1h", Doc: "when the request says nothing", Example: "create: linux-user\nduration: 30m"},
	{Name: "max_duration", Is: lang.Within(time.Second, longest), Default: "8h", Doc: "the longest a request may ask for", Example: "create: linux-user\nmax_duration: 24h"},
	{Name: "margin", Is: lang.Within(time.Second, 24*time.Hour), Default: "15m", Doc: "the device ends the access by itself this long after the expiry, in case runner cannot", Example: "create: linux-user\nmargin: 30m"},
	{Name: "recording", Is: lang.OneWord(RecordOutput, RecordInput, RecordNothing), Default: RecordOutput, Doc: "what is kept of sessions: what the terminal shows; input: also the keys that were typed, as far as the device shows them, so that passwords are not; or none", Example: "create: linux-user\nrecording: input"},
	{Name: "end_when_idle", Is: lang.Within(time.Minute, 24*time.Hour), Else: "never", Doc: "linux: a grant ends when nothing of its account has run on the device for that long. `runner serve` looks; grants of `runner launch` end with their session anyway", Example: "create: linux-user\nend_when_idle: 15m"},
	{Name: "create", Is: lang.FixedText, Else: "required for create_delete", Doc: "name of a template of `templates/create`", Example: "create: linux-user"},
	{Name: "delete", Is: lang.FixedText, Else: "the `removal` of the create template", Doc: "name of a template of `templates/delete`", Example: "create: linux-user\ndelete: linux-user"},
	{Name: "elevate", Is: lang.FixedText, Else: "PLATFORM-group for group_membership, PLATFORM-enable for enable_disable; required for elevate", Doc: "name of a template of `templates/elevate`; with create_delete the new account is elevated by it, too", Example: "create: linux-user\nelevate: linux-group"},
	{Name: "revert", Is: lang.FixedText, Else: "the elevate template", Doc: "name of a template of `templates/elevate` whose section `revert` is run", Example: "create: linux-user\nelevate: linux-group\nrevert: linux-group"},
	{Name: "use_own_credential", Is: lang.Flag, Default: "false", Doc: "the account elevates itself: `authentication` has to be its own login, and may be no other", Example: "create: linux-user\nuse_own_credential: false"},
}}

var sourceTable = lang.Table{Name: "secret_from", Doc: "Where a secret is: exactly one of file, command, agent, keytab and ccache. It is read when it is needed and kept in memory only", Keys: []lang.Key{
	{Name: "file", Is: lang.FixedText, Doc: "a file of mode 0600 that belongs to the caller or root", Example: "file: /etc/runner/password"},
	{Name: "command", Is: lang.Each(lang.FixedText), Doc: "a program and its arguments, run without a shell; its output without the last newline is the secret", Example: "command: [/usr/bin/pass, show, runner/web]"},
	{Name: "agent", Is: lang.FixedText, Doc: "socket of an SSH agent, or `env` for the one of `SSH_AUTH_SOCK`; needs the method agent", Example: "agent: env"},
	{Name: "keytab", Is: lang.FixedText, Doc: "Kerberos keytab; with transport winrm only", Example: "keytab: /etc/runner/runner.keytab"},
	{Name: "ccache", Is: lang.FixedText, Doc: "Kerberos ticket cache; with transport winrm only", Example: "ccache: /run/runner/ccache"},
	{Name: "kind", Is: lang.OneWord("password", "private_key"), Default: "password", Doc: "what a file or command gives", Example: "file: /etc/runner/key\nkind: private_key"},
	{Name: "certificate", Is: lang.FixedText, Doc: "file with the OpenSSH certificate of the key", Example: "file: /etc/runner/key\nkind: private_key\ncertificate: /etc/runner/key-cert.pub"},
	{Name: "passphrase_from", Is: where, Doc: "where the passphrase of an encrypted key is", Example: "file: /etc/runner/key\nkind: private_key\npassphrase_from: {file: /etc/runner/passphrase}"},
}}
