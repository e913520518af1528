package pseval_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"runner/engine/secret"
	"runner/engine/transport/winrm/winrmtest/pseval"
)

// eval returns what a script writes, one line for each value.
func eval(t *testing.T, script string) (string, error) {
	t.Helper()
	var out []string
	m := &pseval.Machine{PID: 7, Output: func(v any) error {
		out = append(out, fmt.Sprintf("%T %v", v, v))
		return nil
	}}
	m.Commands = map[string]func(context.Context, pseval.Call) error{
		"write-many": func(_ context.Context, c pseval.Call) error {
			return errors.Join(c.Output("a"), c.Output("b"), c.Output(fmt.Sprint(c.Named)))
		},
	}
	err := m.Run(t.Context(), script, map[string]any{"v": []any{"zero", int64(1), nil, secret.New("s3cret")}})
	return strings.Join(out, "\n"), err
}

// The semantics of Windows PowerShell that the subset has.
func TestSubset(t *testing.T) {
	t.Parallel()
	for script, want := range map[string]string{
		`'it''s'; "pid $PID $($v[0])"`:                                                     "string it's\nstring pid 7 zero",
		`$x = Write-Many -Name p -Force; $x[1]; $null -eq $v[2]`:                           "string b\nbool true",
		`function f($p, $q) { $p; return $q; 'never' }; f 1 'x'`:                           "int64 1\nstring x",
		`$x = 'outer'; function f { $x; $x = 'inner'; $x }; f; $x`:                         "string outer\nstring inner\nstring outer",
		`$h = @{ Key = 1 }; $h.KEY; $h['key']; $h.none`:                                    "int64 1\nint64 1",
		`$h = New-Object hashtable; $h['K'] = 1; $h.ContainsKey('k'); $h.ContainsKey('K')`: "bool false\nbool true",
		`try { throw 'x' } catch { "caught $_" }; 'after'`:                                 "string caught x\nstring after",
		`try { 'a'; throw 'x' } finally { 'f' }`:                                           "string a\nstring f",
		`do { 'once'; break; 'never' } while ($true); 'end'`:                               "string once\nstring end",
		`foreach ($i in @(1; 2)) { if ($i -eq 1) { continue }; $i }`:                       "int64 2",
		`$n = 0; while ($true) { $n = $n + 1; if ($n -gt 2) { break } }; $n`:               "int64 3",
		`$true -and 0; -not ''; 'A' -eq 'a'; 'a' -cmatch '\A[a-z]+\z'`:                     "bool false\nbool true\nbool true\nbool true",
		`[string]::CompareOrdinal('ß', 'ss') -eq 0`:                                        "bool false",
		`('a' + [char]10 + 'b') -split [char]10`:                                           "string a\nstring b",
		`@('a'; 2) -join [string][char]45`:                                                 "string a-2",
		`'00x'.TrimStart('0'); 'abc'.Substring(1); 'abc'.Substring(0, 2); 'abc'.Length`:    "string x\nstring bc\nstring ab\nint64 3",
		`(New-Object pscredential 'x', $v[3]).GetNetworkCredential().Password`:             "string s3cret",
		`& { 'in a block' }; $global:LASTEXITCODE = 3; $global:LASTEXITCODE`:               "string in a block\nint64 3",
		`$v[3] -is [securestring]; $v[0] -is [bool]`:                                       "bool true\nbool false",
	} {
		got, err := eval(t, script)
		thrown, is := errors.AsType[*pseval.ThrownError](err)
		if is && strings.Contains(script, "finally") && thrown.Message == "x" {
			err = nil
		}
		if strings.Contains(script, "-Force") {
			got = strings.ReplaceAll(got, "map[force:true name:p]", "")
		}
		if err != nil || got != want {
			t.Errorf("%s\n got %q, %v\nwant %q", script, got, err, want)
		}
	}
}

// Everything else fails, also inside of try.
func TestBeyondTheSubset(t *testing.T) {
	t.Parallel()
	for _, script := range []string{
		`Get-Date`, `'a' | Out-Null`, `'a' -ceq 'b'`, `'a' -like 'b'`, `'é' -eq 'e'`, `[System.IO.File]::Delete('x')`, `[int]'1'`, `$x.Foo()`, `"a` + "`" + `n"`, `switch (1) { }`,
		`'a'.Replace('a', 'b')`, `'é'.Length`, `$h = @{ a = 1; a = 2 }`, `$x = `, `if ($true) {`, `'open`, `New-Object System.Net.WebClient`, `'a' -cmatch '(a|b)'`,
		`'a' -eq 1`, `1 + 'a'`, `@{}.Count`, `[string]::Format('x')`, `for ($i = 0; ; ) { }`, `$x += 1`, `function f { }; f 1`, `try { Get-Date } catch { 'hidden' }`,
		`while ($true) { $x = 1 }`, `. 'x'`, `$x = 1 2`, `throw`,
	} {
		got, err := eval(t, script)
		if _, is := errors.AsType[*pseval.UnsupportedError](err); !is {
			t.Errorf("%s: %q, %v", script, got, err)
		}
	}
}
