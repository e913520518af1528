package winrm_test

import (
	"strings"
	"testing"
	"time"

	"runner/engine/secret"
	"runner/engine/transport"
	"runner/engine/transport/winrm"
	"runner/engine/transport/winrm/winrmtest/pscheck"
)

// What is sent is PowerShell, as far as a grammar can tell, and uses nothing
// that ConstrainedLanguage forbids.
func TestScriptsArePowerShell(t *testing.T) {
	t.Parallel()
	d := newDevice("win1")
	c := dialTo(t, d, winrm.Config{})
	ref := func(key string) transport.Ref { return transport.Ref{Step: 1, Key: key, Default: "d"} }
	b := transport.Batch{ID: "x-1", Scope: "g-1", Takeover: true, Steps: []transport.Step{
		step(1, psBodies.Fact, "12"),
		{
			N: 2, Body: psBodies.Echo, Args: []transport.Arg{{Name: "text", Value: transport.Concat{lit("a"), ref("value"), lit(secret.New("b"))}}, {Name: "_r1", Value: lit(nil)}},
			When:  transport.And{transport.Not{P: transport.Less{A: ref("value"), B: lit("3"), OrEqual: true}}, transport.Or{transport.True{V: ref("ran")}, transport.Eq{A: ref("x"), B: lit("y")}}},
			Until: transport.In{A: ref("value"), Set: []transport.Value{lit("12"), lit("x")}}, Retries: 2, Delay: time.Second,
			ChangedWhen: transport.Eq{A: transport.Ref{Step: 2, Key: "rc"}, B: lit("0")}, FailedWhen: transport.Const(false), Continue: true,
		},
		{N: 3, Body: psBodies.Change, Mode: transport.Check},
		{N: 4, Body: psBodies.Mode, Mode: transport.Probe},
	}}
	if err := c.Run(t.Context(), b, func(transport.Event) {}); err != nil {
		t.Fatal(err)
	}
	text := d.win.Scripts()[0]
	pscheck.Check(t, map[string]string{"batch.ps1": text, "cmd.ps1": winrm.CmdScript()})
	pscheck.Refused(t, strings.Replace(text, "} finally", "finally", 1))
	for _, word := range []string{"Add-Type", "Invoke-Expression", "[System.", "[scriptblock]", "[ref]", "::new("} {
		if strings.Contains(text, word) {
			t.Errorf("the script uses %s", word)
		}
	}
	if n := len(text); n > 8000 {
		t.Errorf("the script has %d bytes: every batch carries it", n)
	}
}
