package journal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"runner/engine/grant"
)

func chunk(offset int64, step int, stream, text string) grant.Chunk {
	at := time.Date(2026, 11, 20, 12, 0, 0, int(offset)*int(time.Millisecond), time.UTC)
	return grant.Chunk{Execution: exec, Offset: offset, At: at, Step: step, Stream: stream, Data: []byte(text)}
}

func TestReadStartsAnywhereAndShowsGaps(t *testing.T) {
	t.Parallel()
	m := &memory{}
	var want bytes.Buffer
	for i := range 300 {
		m.chunks = append(m.chunks, chunk(int64(i)*2000, 1, Stdout, strings.Repeat(string(rune('a'+i%26)), 1500)))
	}
	for _, from := range []int64{0, 1, 1499, 1500, 1700, 2000, 300_123, 599_499, 599_500, 1 << 40} {
		want.Reset()
		var got bytes.Buffer
		for _, c := range m.chunks {
			if c.End() > from {
				want.Write(c.Data[max(0, from-c.Offset):])
			}
		}
		at := from
		for c, err := range Read(t.Context(), m, exec, from) {
			if err != nil || c.Offset < at {
				t.Fatalf("from %d: chunk at %d after %d, %v", from, c.Offset, at, err)
			}
			at = c.End()
			got.Write(c.Data)
		}
		if got.String() != want.String() {
			t.Errorf("from %d: %d bytes, want %d", from, got.Len(), want.Len())
		}
	}
	for range Read(t.Context(), m, exec, 0) {
		break // a reader may stop
	}
}

type broken struct{ memory }

func (*broken) ReadLog(context.Context, string, int64, int) ([]grant.Chunk, error) {
	return nil, errDiskFull
}

func TestReadErrorsAreReported(t *testing.T) {
	t.Parallel()
	running := func(context.Context) (bool, error) { return false, nil }
	for name, seq := range map[string]func(yield func(grant.Chunk, error) bool){
		"read":   Read(t.Context(), &broken{}, exec, 7),
		"follow": Follow(t.Context(), &broken{}, exec, 7, 0, running),
		"ended":  Follow(t.Context(), &memory{}, exec, 7, 0, func(context.Context) (bool, error) { return false, errDiskFull }),
	} {
		var errs []error
		for _, err := range seq {
			errs = append(errs, err)
		}
		if len(errs) != 1 || !errors.Is(errs[0], errDiskFull) {
			t.Errorf("%s: %v", name, errs)
		}
	}
}

func TestFollowSeesEveryByteOnceAndStopsAtTheEnd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := &memory{}
		l := New(m, exec, nil, Options{})
		var done atomic.Bool
		go func() {
			for i := range 50 {
				l.Write(t.Context(), i, Stdout, time.Now(), fmt.Appendf(nil, "line %d\n", i))
				elapse(170 * time.Millisecond)
			}
			if err := l.Close(t.Context()); err != nil {
				t.Error(err)
			}
			done.Store(true)
		}()
		ended := func(context.Context) (bool, error) { return done.Load(), nil }
		var got strings.Builder
		var at int64
		// The reader is cut off a few times and goes on by offset.
		for part := 0; at < 100; part++ {
			for c, err := range Follow(t.Context(), m, exec, at, 0, ended) {
				if err != nil {
					t.Fatal(err)
				}
				got.Write(c.Data[:1])
				at = c.Offset + 1
				break
			}
		}
		for c, err := range Follow(t.Context(), m, exec, at, 0, ended) {
			if err != nil {
				t.Fatal(err)
			}
			if time.Since(c.At) > time.Second {
				t.Errorf("%q arrived %s late", c.Data, time.Since(c.At))
			}
			got.Write(c.Data)
		}
		if got.String() != m.text("") || !strings.HasSuffix(got.String(), "line 49\n") {
			t.Errorf("got %q", got.String())
		}
	})
}

func TestFollowEndsWithItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		m := &memory{chunks: []grant.Chunk{chunk(0, 1, Stdout, "a")}}
		n := 0
		for _, err := range Follow(ctx, m, exec, 0, 0, func(ctx context.Context) (bool, error) { return false, ctx.Err() }) {
			if err != nil {
				t.Errorf("leaving is reported as an error: %v", err)
			}
			n++
		}
		if n != 1 {
			t.Errorf("%d chunks", n)
		}
	})
}
