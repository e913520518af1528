package psrp

import (
	"bytes"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"runner/engine/transport/winrm/clixml"
)

// However the fragments are cut and the stream is chopped, the same objects come out.
func TestAnyChoppingComesBack(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s := splitter{size: rapid.IntRange(fragmentHeader+1, 300).Draw(t, "size")}
		var want [][]byte
		var stream []byte
		for range rapid.IntRange(1, 5).Draw(t, "objects") {
			o := rapid.SliceOfN(rapid.Byte(), 0, 1000).Draw(t, "object")
			want = append(want, o)
			for _, p := range s.pack(s.cut(o)) {
				if len(p) > s.size {
					t.Fatalf("a packet of %d bytes, the limit is %d", len(p), s.size)
				}
				stream = append(stream, p...)
			}
		}
		j := joiner{limit: 1 << 20}
		var got [][]byte
		for len(stream) > 0 {
			n := rapid.IntRange(1, len(stream)).Draw(t, "piece")
			out, err := j.add(stream[:n])
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, out...)
			stream = stream[n:]
		}
		if !slices.EqualFunc(got, want, bytes.Equal) {
			t.Fatalf("got %x, want %x", got, want)
		}
		if j.held != 0 || len(j.open) != 0 || len(j.buf) != 0 {
			t.Fatalf("something is left over: %d bytes, %d objects, %d bytes", j.held, len(j.open), len(j.buf))
		}
	})
}

func FuzzFragments(f *testing.F) {
	s := splitter{size: 50}
	f.Add(slices.Concat(s.cut(bytes.Repeat([]byte{7}, 200))...))
	f.Fuzz(func(t *testing.T, b []byte) {
		j := joiner{limit: 1 << 16}
		objects, err := j.add(b)
		total := 0
		for _, o := range objects {
			total += len(o)
		}
		if total > len(b) {
			t.Fatalf("%d bytes came out of %d (%v)", total, len(b), err)
		}
	})
}

func seeds(f *testing.F) (toServer, toClient [][]byte) {
	f.Helper()
	c := NewClient(ClientConfig{ID: clixml.GUID{1}})
	s := NewServer(clixml.GUID{1}, ServerConfig{})
	open, err := c.Open()
	if err != nil {
		f.Fatal(err)
	}
	_, reply, err := s.Receive(clixml.GUID{}, open)
	if err != nil {
		f.Fatal(err)
	}
	toServer = append(toServer, open)
	for _, p := range reply {
		toClient = append(toClient, p.Data)
		if _, err := c.Receive(clixml.GUID{}, p.Data); err != nil {
			f.Fatal(err)
		}
	}
	_, ps, err := c.Start(script("x", Parameter{"a", "b"}))
	if err != nil {
		f.Fatal(err)
	}
	call, err := s.CallHost(HostCall{ID: 1, Method: HostReadLine, Name: "ReadLine"})
	if err != nil {
		f.Fatal(err)
	}
	warn, err := s.Write(Record{Stream: Error, Value: &ErrorRecord{Message: "x"}})
	if err != nil {
		f.Fatal(err)
	}
	return append(toServer, ps[0].Data), append(toClient, call[0].Data, warn[0].Data)
}

// A client survives whatever a server sends, and answers every host call.
func FuzzClient(f *testing.F) {
	_, seeds := seeds(f)
	for _, b := range seeds {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		c := NewClient(ClientConfig{ID: clixml.GUID{1}})
		if _, err := c.Open(); err != nil {
			t.Fatal(err)
		}
		es, err := c.Receive(clixml.GUID{}, b)
		if err != nil && c.State() != PoolBroken {
			t.Fatalf("after %v the pool is %s", err, c.State())
		}
		for _, e := range es {
			switch e := e.(type) {
			case Record:
				_ = e.Text()
			case HostCalled:
				if c.State() != PoolOpened {
					continue
				}
				if _, err := c.Answer(e.Call, nil, NotInteractive(e.Call)); err != nil {
					t.Fatalf("a call that cannot be answered: %v", err)
				}
			}
		}
	})
}

// A server survives whatever a client sends.
func FuzzServer(f *testing.F) {
	seeds, _ := seeds(f)
	for _, b := range seeds {
		f.Add(b)
	}
	f.Fuzz(func(_ *testing.T, b []byte) {
		_, _, _ = NewServer(clixml.GUID{1}, ServerConfig{}).Receive(clixml.GUID{}, b)
	})
}
