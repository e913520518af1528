package ssh

import (
	"strings"
	"testing"

	"runner/engine/secret"
	"runner/engine/transport"
	"runner/engine/transport/transporttest"
)

// Whatever the condition and the values, the device decides as Holds does.
func TestDeviceDecidesAsWeDo(t *testing.T) {
	t.Parallel()
	for name, sh := range shells(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			transporttest.Agree(t, localConn(t, sh, "/bin/sh", "-c"), transporttest.Deciding{
				Facts: transport.Body{Name: "facts", Text: `_out k0 "$a_k0"; _out k1 "$a_k1"; _out k2 "$a_k2"; _changed; return 7`},
				Tell:  transport.Body{Name: "tell", Text: `_out v "$a_v"`},
				Never: transport.Body{Name: "never", Text: "_out k0 x"},
				Holds: func(s string) bool { return !strings.Contains(s, "\x00") },
			})
		})
	}
}

func TestEveryByteArrives(t *testing.T) {
	t.Parallel()
	var all strings.Builder
	for a := 1; a < 256; a++ {
		all.WriteByte(byte(a))
		all.WriteByte('\'')
		all.WriteByte(byte(a))
		all.WriteByte(byte(a))
	}
	values := []string{all.String(), strings.Repeat(all.String(), 64), "ends in CR\r", "\r\n\r\n", strings.Repeat("\n", 1000), strings.Repeat("\\", 1001), strings.Repeat("'", 65536)}
	for name, sh := range shells(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := localConn(t, sh, "/bin/sh", "-c")
			var steps []transport.Step
			for i, v := range values {
				steps = append(steps, transport.Step{N: i, Body: transport.Body{Name: "tell", Text: `_out v "$a_v$_r1"`}, Args: []transport.Arg{arg("v", v), arg("_r1", secret.New(v))}})
			}
			var r record
			if err := c.Run(t.Context(), transport.Batch{Steps: steps}, r.sink); err != nil {
				t.Fatal(err)
			}
			for i, v := range values {
				if got, _ := r.fact(i, "v"); got != v+v {
					t.Errorf("value %d: %d bytes arrived of %d: %.80q", i, len(got), 2*len(v), got)
				}
			}
		})
	}
}

// The exec line is the only text that the login shell reads.
func TestExecLineInEveryLoginShell(t *testing.T) {
	t.Parallel()
	all := shells(t)
	all["yash"] = yash(t)
	for _, name := range []string{"fish", "tcsh"} {
		need(t, name)
		all[name] = name
	}
	for name, login := range all {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := localConn(t, "/bin/sh", append(strings.Fields(login), "-c")...)
			var r record
			if err := c.Run(t.Context(), transport.Batch{Steps: []transport.Step{sh(1, `printf %s "$a_v"`, arg("v", "!! $x `y` \\"))}}, r.sink); err != nil {
				t.Fatal(err)
			}
			if got := r.output(1, transport.Stdout); got != "!! $x `y` \\" {
				t.Errorf("got %q", got)
			}
		})
	}
}

func TestStepsDoNotLeakIntoEachOther(t *testing.T) {
	t.Parallel()
	for name, interpreter := range shells(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := localConn(t, interpreter, "/bin/sh", "-c")
			spoil := sh(1, `cat; cd /tmp; IFS=x; umask 000; set -f; PATH=/nowhere; LC_ALL=C.UTF-8; echo "$a_secret"; set -e`, arg("secret", secret.New("hush")))
			spoil.Continue = true
			look := sh(2, `echo "$(pwd) $(umask) <$IFS> ${a_secret-unset} ${a_mine} $LC_ALL" /et[c]; case $- in *e*) echo "set -e";; esac`, arg("mine", "here"))
			var r record
			if err := c.Run(t.Context(), transport.Batch{Steps: []transport.Step{spoil, look}}, r.sink); err != nil {
				t.Fatal(err)
			}
			if got, want := r.output(2, transport.Stdout), "/ 0077 < \t\n> unset here C /etc\n"; got != want && got != strings.Replace(want, "0077", "077", 1) {
				t.Errorf("got %q, want %q", got, want)
			}
		})
	}
}

func TestBatchesThatCannotBeSentAreRefused(t *testing.T) {
	t.Parallel()
	c := localConn(t, "/bin/sh", "/bin/sh", "-c")
	for name, b := range map[string]transport.Batch{
		"NUL in a value":        {Steps: []transport.Step{sh(1, ":", arg("x", "a\x00b"))}},
		"NUL in a body":         {Steps: []transport.Step{sh(1, "a\x00b")}},
		"a path as id":          {ID: "../x"},
		"a blank in the scope":  {ID: "x", Scope: "a b"},
		"a number used twice":   {Steps: []transport.Step{sh(2, ":"), sh(1, ":"), sh(2, ":")}},
		"a negative number":     {Steps: []transport.Step{sh(-1, ":")}},
		"code as argument name": {Steps: []transport.Step{sh(1, ":", arg("x=;id", "a"))}},
		"a name of ours":        {Steps: []transport.Step{sh(1, ":", arg("__n", "a"))}},
		"an unknown type":       {Steps: []transport.Step{sh(1, ":", arg("x", 1.5))}},
		"NUL in a default":      {Steps: []transport.Step{sh(1, ":", arg("x", transport.Ref{Step: 0, Key: "k", Default: "\x00"}))}},
	} {
		t.Run(name, func(t *testing.T) {
			err := c.Run(t.Context(), b, func(transport.Event) { t.Error("an event") })
			if code(err) != "exec.bad_batch" || !transport.SafeToRetry(err) {
				t.Errorf("error is %v", err)
			}
		})
	}
}
