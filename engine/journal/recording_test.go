package journal_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"runner/engine/journal"
	"runner/engine/secret"
	"runner/engine/store"
)

func TestARecordingBecomesACast(t *testing.T) {
	t.Parallel()
	s := store.NewMemory()
	at := time.Unix(946684800, 0)
	mask := &secret.Mask{}
	if err := mask.Add(secret.New("correct horse")); err != nil {
		t.Fatal(err)
	}
	r := journal.Record(s, "s-1", mask, func() time.Time { return at })
	r.Resize(100, 30)
	r.Show([]byte("$ caf\xc3"))
	at = at.Add(100 * time.Millisecond)
	r.Show([]byte("\xa9 correct ho"))
	at = at.Add(time.Second)
	r.Show([]byte("rse\r\n"))
	r.Resize(120, 40)
	at = at.Add(500 * time.Millisecond)
	r.Type([]byte("ls\r"))
	if n, dropped, err := r.Close(t.Context()); n == 0 || dropped != 0 || err != nil {
		t.Fatalf("%d bytes, %d dropped, %v", n, dropped, err)
	}
	var out bytes.Buffer
	if err := journal.Cast(&out, "box", "xterm", journal.Moments(t.Context(), s, "s-1")); err != nil {
		t.Fatal(err)
	}
	want := `{"version":2,"width":100,"height":30,"timestamp":946684800,"title":"box","env":{"TERM":"xterm"}}
[0,"o","$ caf"]
[0.1,"o","é "]
[1.1,"o","***\r\n"]
[1.1,"r","120x40"]
[1.6,"i","ls\r"]
`
	if out.String() != want {
		t.Errorf("got\n%s\nwant\n%s", out.String(), want)
	}
}

func TestACastSaysWhatIsMissing(t *testing.T) {
	t.Parallel()
	s := store.NewMemory()
	r := journal.Record(s, "s-1", nil, time.Now)
	for range 20 {
		r.Show(bytes.Repeat([]byte("x"), 16<<10))
	}
	if _, _, err := r.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.DropLog(t.Context(), "s-1", 16<<10, 3*16<<10); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := journal.Cast(&out, "", "", journal.Moments(t.Context(), s, "s-1")); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), `"m","32768 bytes are missing"]`) {
		t.Errorf("no word of the gap:\n%.300s", out.String())
	}
	if err := journal.Cast(&out, "", "", journal.Moments(t.Context(), s, "s-2")); !errors.Is(err, journal.ErrNothingRecorded) {
		t.Errorf("got %v", err)
	}
}
