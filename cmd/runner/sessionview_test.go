package main

import (
	"bytes"
	"context"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"runner/engine/journal"
	"runner/engine/store"
)

func TestEscapes(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ in, out, did string }{
		{"ls\r", "ls\r", ""},
		{"~.ls", "", "."},
		{"ls\r~?pwd\r", "ls\rpwd\r", "?"},
		{"ls ~.\r", "ls ~.\r", ""},
		{"~~.\r", "~.\r", ""},
		{"~x~.\r", "~x~.\r", ""},
		{"rubbish\x03~e", "rubbish\x03", "e"},
		{"~\r~.", "~\r", "."},
	} {
		for _, size := range []int{1, 2, 100} {
			var did strings.Builder
			e := &escapes{from: &pieces{text: c.in, size: size}, do: func(key byte) bool {
				if !strings.ContainsRune(".e?", rune(key)) {
					return false
				}
				did.WriteByte(key)
				return true
			}}
			out, err := io.ReadAll(e)
			if err != nil || string(out) != c.out || did.String() != c.did {
				t.Errorf("%q by %d: %q and %q, %v; want %q and %q", c.in, size, out, did.String(), err, c.out, c.did)
			}
		}
	}
}

// pieces is a text that is read in pieces.
type pieces struct {
	text string
	size int
}

func (p *pieces) Read(b []byte) (int, error) {
	if p.text == "" {
		return 0, io.EOF
	}
	n := copy(b, p.text[:min(p.size, len(p.text))])
	p.text = p.text[n:]
	return n, nil
}

// What is typed is recorded as far as it is shown, and nothing else.
func TestKeysAreRecordedAsFarAsTheyAreShown(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		talk []string // what is typed, what is shown, in turns
		want string
	}{
		"a command":                        {[]string{"ls\r", "ls\r\nfile\r\n$ "}, "ls\r"},
		"key by key":                       {[]string{"l", "l", "s", "s", "\r", "\r\n"}, "ls\r"},
		"echo that comes late":             {[]string{"ls\rpwd\r", "", "", "ls\r\nfile\r\n$ ", "", "pwd\r\n"}, "ls\r\r"},
		"a password":                       {[]string{"hunter2\r", "\r\nwelcome\r\n"}, "\r"},
		"a password with stars":            {[]string{"h", "*", "u", "*", "n", "*", "\r", "\r\n"}, "\r"},
		"a password that the output holds": {[]string{"hunter2\r", "\r\nhunter2 is wrong\r\n"}, "\r"},
		"a password half of which comes":   {[]string{"hunter2\r", "hunt for it\r\n"}, "\r"},
		"colours in between":               {[]string{"ls\r", "\x1b[1ml\x1b[0ms\r\n"}, "ls\r"},
		"an arrow":                         {[]string{"\x1b[A", "ls", "\r", "\r\n"}, "\x1b[A\r"},
		"an interrupt":                     {[]string{"\x03", "^C\r\n"}, "\x03"},
	} {
		s := store.NewMemory()
		rec := journal.Record(s, "s-1", nil, time.Now)
		e := &echoed{rec: rec}
		for i, text := range c.talk {
			if i%2 == 0 {
				e.typed([]byte(text))
			} else {
				e.shown([]byte(text))
			}
		}
		if _, _, err := rec.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		var got strings.Builder
		for m, err := range journal.Moments(t.Context(), s, "s-1") {
			if err != nil {
				t.Fatal(err)
			}
			got.Write(m.Data)
		}
		if got.String() != c.want {
			t.Errorf("%s: recorded %q, want %q", name, got.String(), c.want)
		}
	}
}

func TestANoticeBreaksNothing(t *testing.T) {
	t.Parallel()
	var out syncBuffer
	v := &sessionView{app: newApp(process{env: func(string) string { return "" }, stdout: &out, stderr: &out}), to: &out, tty: true}
	say := func(text string) { v.notice("%s", text); v.writing.Wait() }
	show := func(text string) {
		if _, err := io.WriteString(v, text); err != nil {
			t.Fatal(err)
		}
	}
	show("$ \x1b[3")
	say("one") // in the middle of a sequence
	show("1mred\xc3")
	say("two") // and of a character
	show("\xa9\x1b[?1049h")
	say("three")
	show("vim")
	show("\x1b[?1049l$ ")
	want := "$ \x1b[31mred\xc3\xa9\x1b[?1049h\a\x1b[22;2t\x1b]2;runner: two\a\a\x1b]2;runner: three\avim\x1b[?1049l$ \x1b[23;2t\r\nrunner: three\r\n"
	if got := out.String(); got != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

// A session on a terminal whose clock jumps: it is told, it ends, and its recording
// plays to its end.
func TestASessionIsToldOfItsEndAndEnds(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	var ahead atomic.Int64
	now := func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	k := newTerminal(t, 100, 30)
	p := thisProcess()
	p.stdin, p.stdout, p.stderr, p.outTTY, p.errTTY, p.now = k.slave, k.slave, k.slave, true, true, now
	p.env = func(name string) string { return map[string]string{"TERM": "xterm", "NO_COLOR": "1"}[name] }
	p.caller = func() (string, error) { return "ana", nil }
	code := make(chan int, 1)
	go func() {
		code <- runUntil(context.Background(), []string{"--workspace", s.dir, "launch", "web-admin", "--for", "10m"}, p)
	}()
	k.sees("$ ")
	ahead.Store(int64(5*time.Minute + 10*time.Second))
	k.sees("runner: this session ends in 5m")
	k.types("printf '\\033[?1049hfull'\r")
	k.sees("\x1b[?1049hfull")
	ahead.Store(int64(9*time.Minute + 10*time.Second))
	k.sees("\a\x1b[22;2t\x1b]2;runner: this session ends in 1m")
	k.types("printf '\\033[?1049lback'\r")
	k.sees("\r\nrunner: this session ends in 1m")
	k.types("~e") // eight hours at most: ten minutes more are no question
	k.sees("runner: extended: this session ends at")
	ahead.Store(int64(20*time.Minute + 10*time.Second))
	k.sees("the session is over: the time of grant")
	k.sees("is removed from web")
	if c := <-code; c != 255 {
		t.Errorf("exit code %d, want 255", c)
	}
	if left, err := s.box.Shell(t.Context(), "getent passwd | grep jit-[a-z2-7]* | grep -v jitadm | grep -v jitpw | grep -v jittty || true"); err != nil || left != "" {
		t.Errorf("left: %q, %v", left, err)
	}
	out, errs, c := s.as(t, "ana", "session", "list", "-o", "json")
	id := between(out, `"id": "`, `"`)
	if c != 0 || !strings.Contains(out, `"ended_by": "expire"`) {
		t.Fatalf("session list: exit %d\n%s%s", c, out, errs)
	}
	out, errs, c = s.as(t, "ana", "session", "play", id)
	if c != 0 || !strings.Contains(out, "full") || !strings.Contains(out, "back") {
		t.Errorf("session play: exit %d\n%s%s", c, out, errs)
	}
	if _, errs, c = s.as(t, "bo", "session", "play", id); c != exitDenied {
		t.Errorf("somebody else may play it: exit %d, %s", c, errs)
	}
	var cast bytes.Buffer
	out, _, c = s.as(t, "root", "session", "show", id, "--cast")
	cast.WriteString(out)
	if line, _ := cast.ReadString('\n'); c != 0 || !strings.HasPrefix(line, `{"version":2,"width":100,"height":30,`) {
		t.Errorf("session show --cast: exit %d, %.200s", c, line)
	}
}

// between returns what stands between two texts.
func between(s, from, to string) string {
	_, s, _ = strings.Cut(s, from)
	s, _, _ = strings.Cut(s, to)
	return s
}
