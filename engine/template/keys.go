package template

import (
	"math"

	"runner/engine/lang"
	"runner/engine/secret"
)

// Everything an author may write in a template, but for the arguments of
// modules, which engine/module describes. A new key is a line here beside its
// line in the loader; a test fails when one of them is missing. Example is the
// key as it stands, with what else it needs beside it; a test runs it.

// Variants of the table of steps.
const (
	moduleStep  = "step"    // calls a module
	blockStep   = "block"   // groups steps
	includeStep = "include" // runs the steps of a file
)

var (
	forward   = []string{string(Create), string(Elevate)}
	steps     = lang.Shape{Kind: lang.ListShape, Of: &lang.Shape{Kind: lang.MapShape, Table: "step"}, Filled: true}
	asAccount = lang.Either(lang.FixedText, lang.OneWord("false"))
)

// Tables describes the maps of a template.
func Tables() []*lang.Table {
	return []*lang.Table{&templateTable, &paramTable, &generateTable, &stepTable, &loopTable, &includeTable, &fileTable}
}

var templateTable = lang.Table{Name: "template", Doc: "A file holds one template", Keys: []lang.Key{
	{Name: "schema", Is: lang.OneWord("runner/v1"), Need: true, Doc: "the language of the file; always the first key", Example: "schema: runner/v1"},
	{Name: "kind", Is: lang.OneWord(kinds...), Need: true, Doc: "what the template does; it is also the folder it lies in", Example: "kind: create"},
	{Name: "name", Is: lang.FixedText, Need: true, Doc: "name of the file without .yaml: lower-case letters, digits, dots, underscores and hyphens", Example: "name: linux-user"},
	{Name: "description", Is: lang.FixedText, Doc: "what it is for, in a line", Example: "description: An account with a key, for an hour"},
	{Name: "platform", Is: lang.FixedText, Need: true, Doc: "devices that it is for; modules of other platforms are refused", Example: "platform: linux"},
	{Name: "enabled", Is: lang.Flag, Default: "true", Doc: "false: nobody can use it", Example: "enabled: false"},
	{Name: "executor", Is: lang.OneWord("native"), Default: "native", Doc: "what runs it", Example: "executor: native"},
	{Name: "removal", Is: lang.FixedText, Need: true, In: []string{string(Create)}, Doc: "the delete template that takes away what this one makes", Example: "removal: linux-user"},
	{Name: "become", Is: asAccount, Else: "the login account", Doc: "account that the steps run as; the inventory says how", Example: "become: root"},
	{Name: "timeout", Is: lang.Within(minTimeout, maxTimeout), Else: "60s", Doc: "how long a step may take that says nothing itself; then its processes are ended", Example: "timeout: 30s"},
	{Name: "on_disconnect", Is: lang.OneWord("stop", "continue"), Default: "stop", In: forward, Doc: "what the device does when the connection is lost: stop after the step, or go on", Example: "on_disconnect: continue"},
	{Name: "on_disconnect", Is: lang.OneWord("stop", "continue"), Default: "continue", In: []string{string(Delete)}, Doc: "what the device does when the connection is lost: stop after the step, or go on", Example: "on_disconnect: stop"},
	{Name: "on_failure", Is: lang.OneWord("revert", "keep"), Default: "revert", In: forward, Doc: "when a step fails in an ad hoc run: revert what was changed, or keep it; a grant is always removed", Example: "on_failure: keep"},
	{Name: "params", Is: lang.Named(lang.MapBy("param")), Doc: "values that the template takes; a request beats a credential, which beats the default", Example: "params:\n  shell: {type: path, default: /bin/sh}"},
	{Name: "vars", Is: lang.Named(lang.ValueOf(lang.Any)), Doc: "values that are computed once, before the steps, and kept with the grant; each sees those before it; a removal reads them as created.vars", Example: "vars:\n  comment: 'runner {{ grant.id }}'"},
	{Name: "steps", Is: steps, Need: true, Doc: "what is done, in order", Example: "steps:\n  - name: Say who\n    debug: '{{ grant.account }}'"},
	{Name: "outputs", Is: lang.Named(lang.ExprOf(lang.Any)), Doc: "values handed on to the grant, and to its removal as created.outputs", Example: "outputs:\n  username: grant.account"},
	{Name: "renew", Is: steps, In: forward, Doc: "steps that move the device's own expiries when a grant is extended", Example: "renew:\n  - name: Move the expiry\n    expiry: {user: '{{ grant.account }}', expires: '{{ grant.backstop_at }}'}"},
	{Name: "revert", Is: steps, Need: true, In: []string{string(Elevate)}, Doc: "steps that take the elevation back", Example: "revert:\n  - name: Undo\n    revert: {of: created}"},
}}

var paramTable = lang.Table{Name: "param", Doc: "A value that the template takes, under its name in params", Keys: []lang.Key{
	{Name: "type", Is: lang.OneWord(paramTypes...), Need: true, Doc: "what values it has", Example: "type: string"},
	{Name: "of", Is: lang.OneWord("string", "int", "bool", "float", "duration", "time"), Else: "string", Doc: "what a list holds", Example: "type: list\nof: int\ndefault: [80, 443]"},
	{Name: "description", Is: lang.FixedText, Doc: "what it is for; shown when it is missing or wrong", Example: "type: string\ndefault: ops\ndescription: group that owns the files"},
	{Name: "optional", Is: lang.Flag, Default: "false", Doc: "it may be absent, and is empty, 0 or false then", Example: "type: string\noptional: true"},
	{Name: "default", Is: lang.ValueOf(lang.Any), Doc: "what it is when nobody gives it; sees grant, device and the params before it; not for secrets", Example: "type: string\ndefault: '{{ grant.account }}'"},
	{Name: "enum", Is: lang.Each(lang.FixedText), Doc: "the texts it may be", Example: "type: enum\nenum: [delete, archive, keep]\ndefault: delete"},
	{Name: "pattern", Is: lang.FixedText, Doc: "regular expression (RE2) that a string or path matches as a whole", Example: "type: string\npattern: '[a-z][a-z0-9-]*'\ndefault: web"},
	{Name: "min", Is: lang.Whole(math.MinInt64, math.MaxInt64), Doc: "least value of an int; least length of a string, path or list", Example: "type: int\nmin: 1\ndefault: 3"},
	{Name: "max", Is: lang.Whole(math.MinInt64, math.MaxInt64), Doc: "most, likewise", Example: "type: string\nmax: 20\ndefault: web"},
	{Name: "from", Is: lang.OneWord(fromCredential, fromRequest, fromGrant), Else: "a request or the credential", Doc: "who alone may set it: the credential (or an operator), so that a requester cannot; a request; or nobody, so that it always is its default (grant)", Example: "type: list\ndefault: []\nfrom: credential"},
	{Name: "generate", Is: lang.MapBy("generate"), Doc: "a secret that nobody gives is made; not in delete templates", Example: "type: secret\ngenerate: {length: 24}"},
}}

var generateTable = lang.Table{Name: "generate", Doc: "How a secret param is made", Keys: []lang.Key{
	{Name: "length", Is: lang.Whole(secret.MinLength, secret.MaxLength), Default: "24", Doc: "number of characters", Example: "length: 32"},
	{Name: "classes", Is: lang.Each(lang.OneWord(classes...)), Default: "[lower, upper, digit, symbol]", Doc: "what it is made of; at least one of each is used", Example: "classes: [lower, digit]"},
	{Name: "exclude", Is: lang.FixedText, Doc: "characters that are left out, such as those that people take for another", Example: "exclude: '0O1lI'"},
}}

var loopTable = lang.Table{Name: "loop_control", Doc: "How the element of a loop is named and shown", Keys: []lang.Key{
	{Name: "var", Is: lang.FixedText, Default: "item", Doc: "name of the element", Example: "var: who"},
	{Name: "label", Is: lang.ValueOf(lang.String), Else: "its own text, or its number", Doc: "what an element is called in messages and logs; sees the element", Example: "label: 'account {{ item }}'"},
}}

var includeTable = lang.Table{Name: "include", Doc: "What a step runs instead of a module: the steps of a file of kind steps", Keys: []lang.Key{
	{Name: "file", Is: lang.FixedText, Need: true, Doc: "path below the folder templates, of the workspace or else of the shipped ones; it is pinned with the grant", Example: "file: common/message.yaml\nparams: {text: hello}"},
	{Name: "params", Is: lang.Named(lang.ValueOf(lang.Any)), Doc: "values for the params that the file declares", Example: "file: common/message.yaml\nparams: {text: '{{ grant.account }}'}"},
}}

var fileTable = lang.Table{Name: "steps file", Doc: "A file of steps that templates include; it lies in any other folder below templates", Keys: []lang.Key{
	{Name: "schema", Is: lang.OneWord("runner/v1"), Need: true, Doc: "the language of the file; always the first key", Example: "schema: runner/v1"},
	{Name: "kind", Is: lang.OneWord(string(Steps)), Need: true, Doc: "says that others include it", Example: "kind: steps"},
	{Name: "name", Is: lang.FixedText, Doc: "what it is called, for people", Example: "name: message"},
	{Name: "description", Is: lang.FixedText, Doc: "what it is for, in a line", Example: "description: Tell people who may come in"},
	{Name: "platform", Is: lang.FixedText, Need: true, Doc: "devices that it is for; that of the templates that include it", Example: "platform: linux"},
	{Name: "params", Is: lang.Named(lang.MapBy("param")), Doc: "values that the file takes; those without default have to be given", Example: "params:\n  text: {type: string, default: hello}"},
	{Name: "steps", Is: steps, Need: true, Doc: "what is done, in order; they see their own params and results, grant, device and created", Example: "steps:\n  - name: Say it\n    debug: '{{ grant.account }}'"},
	{Name: "outputs", Is: lang.Named(lang.ExprOf(lang.Any)), Doc: "values that the step has which includes it, under the name that it registers", Example: "outputs:\n  said: grant.account"},
}}

var stepTable = lang.Table{Name: "step", Doc: "An entry of steps, block, rescue, always, renew or revert: a call of one module, whose name is a key too, a block, or an include", Keys: []lang.Key{
	{Name: "name", Is: lang.FixedText, Need: true, In: []string{moduleStep, includeStep}, Doc: "what it does, for people; messages and logs show it", Example: "name: Say who\ndebug: '{{ grant.account }}'"},
	{Name: "name", Is: lang.FixedText, In: []string{blockStep}, Doc: "what the block is for", Example: "name: In one go\nblock:\n  - {name: First, debug: first}\n  - {name: Second, debug: second}"},
	{Name: "register", Is: lang.FixedText, In: []string{moduleStep, includeStep}, Doc: "name of the result; later steps and outputs read register.changed, register.stdout and the outputs of the module or file, a removal reads created.steps.register.stdout", Example: "register: home\nname: Look at the home\nshell: ls -d /home\nchanged_when: false"},
	{Name: "when", Is: lang.Condition, Doc: "run it only when this holds; success(), failure() and always() ask how the steps before it went", Example: "name: Only when it is there\nwhen: account.exists\ndebug: 'uid {{ account.uid }}'"},
	{Name: "loop", Is: lang.ValueOf(lang.Type{Kind: lang.ListKind}), In: []string{moduleStep, includeStep}, Doc: "run it, or all steps of the file, once for each element of a list of at most 256; the element is item; the result has items, and changed or failed when one of them has", Example: "name: Look at both\nloop: [root, daemon]\nuser_info: '{{ item }}'"},
	{Name: "loop_control", Is: lang.MapBy("loop_control"), In: []string{moduleStep, includeStep}, Doc: "how the element is named and shown; needs loop", Example: "name: Look at both\nloop: [root, daemon]\nloop_control: {var: who}\nuser_info: '{{ who }}'"},
	{Name: "vars", Is: lang.Named(lang.ValueOf(lang.Any)), In: []string{moduleStep, blockStep}, Doc: "values for this step, or for the steps of the block, computed before each of them; each sees those before it and the element of a loop; read as vars.NAME, beside those of the template", Example: "name: Look at the folder\nvars: {folder: '/home/{{ grant.account }}'}\nshell: ls -d \"{{ vars.folder }}\" || true\nchanged_when: false"},
	{Name: "until", Is: lang.Condition, In: []string{moduleStep}, Doc: "run it again until this holds; sees the step's own result as rc, stdout, changed, …", Example: "name: Wait for the folder\nshell: test -d /run\nchanged_when: false\nuntil: rc == 0"},
	{Name: "retries", Is: lang.Whole(1, maxRetries), Default: "3", In: []string{moduleStep}, Doc: "how often at most after the first time; needs until", Example: "name: Wait for the folder\nshell: test -d /run\nchanged_when: false\nuntil: rc == 0\nretries: 10"},
	{Name: "delay", Is: lang.Within(0, maxDelay), Default: "1s", In: []string{moduleStep}, Doc: "pause between two tries; needs until", Example: "name: Wait for the folder\nshell: test -d /run\nchanged_when: false\nuntil: rc == 0\ndelay: 200ms"},
	{Name: "backoff", Is: lang.Whole(1, maxBackoff), Default: "1", In: []string{moduleStep}, Doc: "by what the pause is multiplied after each try; needs until", Example: "name: Wait for the folder\nshell: test -d /run\nchanged_when: false\nuntil: rc == 0\ndelay: 200ms\nbackoff: 2"},
	{Name: "max_delay", Is: lang.Within(0, maxDelay), Default: "1m", In: []string{moduleStep}, Doc: "longest pause that backoff leads to; needs backoff", Example: "name: Wait for the folder\nshell: test -d /run\nchanged_when: false\nuntil: rc == 0\nbackoff: 2\nmax_delay: 10s"},
	{Name: "timeout", Is: lang.Within(minTimeout, maxTimeout), Else: "the template's", In: []string{moduleStep}, Doc: "how long one try may take; then its processes are ended and it has failed", Example: "name: Look, but not for long\nshell: find /etc -name passwd\nchanged_when: false\ntimeout: 10s"},
	{Name: "changed_when", Is: lang.Condition, Else: "the module says", In: []string{moduleStep}, Doc: "whether it counts as a change; false: it changes nothing and needs no undo", Example: "name: Read the version\nshell: cat /etc/debian_version\nchanged_when: false"},
	{Name: "failed_when", Is: lang.Condition, Else: "the exit status", In: []string{moduleStep}, Doc: "whether it has failed, in place of the exit status", Example: "name: Nobody of that name\nuser_info: root\nfailed_when: not exists or uid != 0"},
	{Name: "on_error", Is: lang.OneWord("fail", "continue"), Default: "fail", Doc: "what follows when it fails: fail ends the template or goes to rescue, continue goes on", Example: "name: Nice to have\non_error: continue\nshell: test -d /nowhere\nchanged_when: false"},
	{Name: "become", Is: asAccount, Else: "the template's", Doc: "account that it runs as; false: the login account", Example: "name: As ourselves\nbecome: false\nshell: id -un\nchanged_when: false"},
	{Name: "no_log", Is: lang.Flag, Default: "false", Doc: "keep what it prints out of the log", Example: "name: Read quietly\nno_log: true\nshell: cat /etc/debian_version\nchanged_when: false"},
	{Name: "tags", Is: lang.Each(lang.FixedText), Doc: "words about the step, by which template run --tags and --skip-tags select, also all steps of a block; a grant runs every step; no_access marks the one after which nobody can use the account any more", Example: "name: End its sessions\ntags: [no_access]\nkill_sessions: {uid: '{{ grant.uid }}'}"},
	{Name: "undo", Is: lang.Program, In: []string{moduleStep}, Doc: "script that takes back what a script did; it runs also when that was cut off half way or before it did anything, so it has to bear both, and it cannot use secrets; shell, command and script need it unless changed_when is false", Example: "name: Mark the machine\nshell: touch /run/marked\nundo: rm -f /run/marked"},
	{Name: "include", Is: lang.MapBy("include"), Need: true, In: []string{includeStep}, Doc: "runs the steps of another file; they see its params and results, and grant, device and created", Example: "name: Say who may come in\ninclude:\n  file: common/message.yaml\n  params: {text: '{{ grant.account }}'}"},
	{Name: "probe", Is: lang.Program, In: []string{moduleStep}, Doc: "script that says whether what a script makes is there: exit 0 yes, 1 no, and in PowerShell the last that it says, True or False; then check mode can tell, the script runs only when it is not there, has to have made it, and is undone only when it was not there before and is now; needs undo, and cannot use secrets", Example: "name: Mark the machine\nshell: touch /run/probed\nundo: rm /run/probed\nprobe: test -e /run/probed"},
	{Name: "block", Is: steps, Need: true, In: []string{blockStep}, Doc: "steps that share when, become and on_error", Example: "block:\n  - {name: First, debug: first}\n  - {name: Second, debug: second}"},
	{Name: "rescue", Is: steps, In: []string{blockStep}, Doc: "steps for when one of the block failed; after them the failure is over", Example: "block:\n  - {name: Not ready, fail: not ready}\nrescue:\n  - {name: Say so, debug: going on without it}"},
	{Name: "always", Is: steps, In: []string{blockStep}, Doc: "steps that run after the block, however it went", Example: "block:\n  - {name: Work, debug: at work}\nalways:\n  - {name: Tidy up, debug: done}"},
}}
