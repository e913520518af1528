package journal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"runner/engine/grant"
	"runner/engine/secret"
)

const (
	exec   = "x-1"
	canary = "canary-5ecret"
)

var errDiskFull = errors.New("no space left on device")

// memory keeps logs in memory. fail, if set, decides what a call returns
// before it does anything, after what it returns when it was done all the same.
type memory struct {
	mu      sync.Mutex
	chunks  []grant.Chunk
	dropped int64
	most    int64 // bytes kept at any time
	appends int
	fail    func(ctx context.Context, call string) error
	after   func(call string) error
}

func (m *memory) AppendLog(ctx context.Context, chunks []grant.Chunk) error {
	if m.fail != nil {
		if err := m.fail(ctx, "append"); err != nil {
			return err
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.appends++
	for _, c := range chunks {
		if n := len(m.chunks); n > 0 && c.Offset < m.chunks[n-1].End() {
			i := slices.IndexFunc(m.chunks, func(o grant.Chunk) bool { return o.Offset == c.Offset })
			if i < 0 || !bytes.Equal(m.chunks[i].Data, c.Data) {
				return fmt.Errorf("chunk at %d inside the log", c.Offset)
			}
			continue
		}
		c.Data = bytes.Clone(c.Data)
		m.chunks = append(m.chunks, c)
	}
	m.most = max(m.most, m.size())
	if m.after != nil {
		return m.after("append")
	}
	return nil
}

func (m *memory) ReadLog(_ context.Context, _ string, from int64, maxBytes int) ([]grant.Chunk, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []grant.Chunk
	for _, c := range m.chunks {
		if c.End() > from && maxBytes > 0 {
			out = append(out, c)
			maxBytes -= len(c.Data)
		}
	}
	return out, nil
}

func (m *memory) DropLog(ctx context.Context, _ string, from, to int64) error {
	if m.fail != nil {
		if err := m.fail(ctx, "drop"); err != nil {
			return err
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	before := m.size()
	m.chunks = slices.DeleteFunc(m.chunks, func(c grant.Chunk) bool { return c.Offset >= from && c.End() <= to })
	m.dropped += before - m.size()
	return nil
}

func (m *memory) size() int64 {
	var n int64
	for _, c := range m.chunks {
		n += int64(len(c.Data))
	}
	return n
}

// text returns what one stream of the log holds; empty: all streams.
func (m *memory) text(stream string) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var b strings.Builder
	for _, c := range m.chunks {
		if stream == "" || c.Stream == stream {
			b.Write(c.Data)
		}
	}
	return b.String()
}

func maskOf(t *testing.T, secrets ...string) *secret.Mask {
	t.Helper()
	m := &secret.Mask{}
	for _, s := range secrets {
		if err := m.Add(secret.New(s)); err != nil {
			t.Fatal(err)
		}
	}
	return m
}

// elapse lets time pass in the bubble of a synctest.
func elapse(d time.Duration) { <-time.After(d) }

func closeLog(t *testing.T, l *Log) {
	t.Helper()
	if err := l.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestNothingIsKeptUnmasked(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := &memory{}
		l := New(m, exec, maskOf(t, canary), Options{})
		ctx := t.Context()
		for i := range len(canary) { // byte by byte, both streams in turn
			l.Write(ctx, 1, Stdout, time.Now(), []byte(canary[i:i+1]))
			l.Write(ctx, 1, Stderr, time.Now(), []byte(canary[i:i+1]))
			synctest.Wait()
			elapse(time.Second)
		}
		l.Write(ctx, 1, Stdout, time.Now(), []byte("\nnext canary"))
		l.EndStep(1)
		l.Write(ctx, 2, Stdout, time.Now(), []byte("-5ecret is no secret then\n"))
		l.Note(2, "sent "+canary+"\x1b[2J and can\x1b[0mary-5ecret")
		closeLog(t, l)
		if got := m.text(Stdout); got != "***\nnext canary-5ecret is no secret then\n" {
			t.Errorf("stdout %q", got)
		}
		if got := m.text(Stderr); got != secret.Hidden {
			t.Errorf("stderr %q", got)
		}
		if got := m.text(Runner); got != "sent *** and ***\n" {
			t.Errorf("notes %q", got)
		}
	})
}

func TestOutputIsStoredAfterTheDelayOrAtOnceWhenThereIsMuch(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := &memory{}
		l := New(m, exec, nil, Options{})
		ctx := t.Context()
		l.Write(ctx, 1, Stdout, time.Now(), []byte("a"))
		elapse(199 * time.Millisecond)
		synctest.Wait()
		if got := m.text(""); got != "" {
			t.Errorf("stored too early: %q", got)
		}
		l.Write(ctx, 1, Stdout, time.Now(), []byte("b"))
		elapse(time.Millisecond)
		synctest.Wait()
		if got := m.text(""); got != "ab" || len(m.chunks) != 1 {
			t.Errorf("after the delay: %q in %d chunks", got, len(m.chunks))
		}
		start := time.Now()
		l.Write(ctx, 1, Stdout, time.Now(), make([]byte, maxChunk))
		synctest.Wait()
		if m.size() != maxChunk+2 || time.Since(start) != 0 {
			t.Errorf("%d bytes are stored, not %d", m.size(), maxChunk+2)
		}
		l.Write(ctx, 1, Stdout, time.Now(), []byte("c"))
		l.EndStep(1)
		synctest.Wait()
		if m.size() != maxChunk+3 {
			t.Error("the end of a step is not stored at once")
		}
		n := m.appends
		elapse(time.Hour)
		synctest.Wait()
		if m.appends != n {
			t.Error("the store is called when there is nothing to store")
		}
		closeLog(t, l)
	})
}

func TestChunksTellStepsStreamsAndTimesApart(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := &memory{}
		l := New(m, exec, nil, Options{})
		at := time.Now().Add(-time.Hour)
		ctx := t.Context()
		l.Write(ctx, 1, Stdout, at, []byte("a"))
		l.Write(ctx, 1, Stdout, at.Add(time.Millisecond), []byte("b"))
		l.Write(ctx, 1, Stderr, at, []byte("c"))
		l.Write(ctx, 1, Stdout, at, []byte("d"))
		l.Write(ctx, 1, Stdout, at.Add(time.Second), []byte("e"))
		from := l.Offset()
		l.EndStep(1)
		l.Write(ctx, 2, Stdout, at.Add(time.Second), []byte("fg"))
		if from != 5 || l.Offset() != 7 {
			t.Errorf("offsets %d and %d", from, l.Offset())
		}
		closeLog(t, l)
		var got []string
		for _, c := range m.chunks {
			got = append(got, fmt.Sprintf("%d %d %s %s %s", c.Offset, c.Step, c.Stream, c.Data, c.At.Sub(at)))
			if c.Execution != exec || c.At.Location() != time.UTC {
				t.Errorf("chunk %+v", c)
			}
		}
		want := []string{"0 1 stdout ab 0s", "2 1 stderr c 0s", "3 1 stdout d 0s", "4 1 stdout e 1s", "5 2 stdout fg 1s"}
		if !slices.Equal(got, want) {
			t.Errorf("got %q", got)
		}
	})
}

// numbered returns lines of 16 bytes that say where they begin.
func numbered(from, to int64) []byte {
	var b bytes.Buffer
	for at := from; at < to; at += 16 {
		fmt.Fprintf(&b, "%015d\n", at)
	}
	return b.Bytes()
}

func TestHeadAndTailAreKeptAndTheRestIsCounted(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const head, tail, all = 32 << 10, 64 << 10, 1 << 20
		m := &memory{}
		l := New(m, exec, nil, Options{Head: head, Tail: tail})
		for at := int64(0); at < all; at += 8 << 10 {
			l.Write(t.Context(), 1, Stdout, time.Now(), numbered(at, at+8<<10))
			if at%(64<<10) == 0 {
				elapse(time.Second)
				synctest.Wait()
			}
		}
		closeLog(t, l)
		if m.most > head+tail || m.size() < head+tail*9/10 {
			t.Errorf("%d bytes were kept at most, %d at the end; the limit is %d", m.most, m.size(), head+tail)
		}
		if l.Offset() != all || l.Dropped() != m.dropped || m.size()+m.dropped != all {
			t.Errorf("offset %d, dropped %d, really %d, kept %d", l.Offset(), l.Dropped(), m.dropped, m.size())
		}
		gaps := 0
		var at int64
		for _, c := range m.chunks {
			if c.Offset != at {
				gaps++
				if at != head {
					t.Errorf("gap at %d, not behind the head", at)
				}
			}
			if want := numbered(c.Offset/16*16, c.End()+16)[c.Offset%16:][:len(c.Data)]; !bytes.Equal(c.Data, want) {
				t.Fatalf("offset %d holds %q", c.Offset, c.Data[:20])
			}
			at = c.End()
		}
		if gaps != 1 || at != all {
			t.Errorf("%d gaps, end at %d", gaps, at)
		}
	})
}

func TestDefaultLimitIs64MiB(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := &memory{}
		l := New(m, exec, maskOf(t, canary), Options{})
		piece := bytes.Repeat([]byte("0123456789abcde\n"), 4096)
		const all = 96 << 20
		for range all / len(piece) {
			l.Write(t.Context(), 1, Stdout, time.Now(), piece)
		}
		closeLog(t, l)
		if m.most > 64<<20 || m.size() < 63<<20 || l.Dropped()+m.size() != all || l.Offset() != all {
			t.Errorf("at most %d kept, %d at the end, %d dropped", m.most, m.size(), l.Dropped())
		}
	})
}

func TestFullDiskNeverStopsAnExecution(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var full atomic.Bool
		full.Store(true)
		m := &memory{fail: func(context.Context, string) error {
			if full.Load() {
				return errDiskFull
			}
			return nil
		}}
		l := New(m, exec, nil, Options{})
		start := time.Now()
		l.Write(t.Context(), 1, Stdout, time.Now(), []byte("x"))
		elapse(time.Second)
		for range 64 {
			l.Write(t.Context(), 1, Stdout, time.Now(), make([]byte, 64<<10))
		}
		if waited := time.Since(start); waited > 2*time.Second {
			t.Errorf("the execution waited %s for a broken store", waited)
		}
		full.Store(false)
		elapse(time.Minute)
		l.Write(t.Context(), 1, Stdout, time.Now(), []byte("again there"))
		err := l.Close(t.Context())
		if !errors.Is(err, errDiskFull) {
			t.Errorf("Close: %v", err)
		}
		if !strings.HasSuffix(m.text(""), "again there") || m.chunks[0].Offset != 0 {
			t.Error("what came before or after the failure is not there")
		}
		if l.Dropped() == 0 || l.Dropped()+m.size() != l.Offset() || m.chunks[len(m.chunks)-1].End() != l.Offset() {
			t.Errorf("dropped %d, kept %d, offset %d", l.Dropped(), m.size(), l.Offset())
		}
		if again := l.Close(t.Context()); again == nil || again.Error() != err.Error() {
			t.Errorf("second Close: %v", again)
		}
	})
}

func TestShortFailureLosesNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		calls := 0
		m := &memory{after: func(string) error { // stored, but the answer is lost
			if calls++; calls <= 2 {
				return context.DeadlineExceeded
			}
			return nil
		}}
		l := New(m, exec, nil, Options{})
		for i := range 20 {
			l.Write(t.Context(), 1, Stdout, time.Now(), fmt.Appendf(nil, "%d ", i))
			elapse(50 * time.Millisecond)
		}
		closeLog(t, l)
		if got := m.text(""); got != "0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 " || l.Dropped() != 0 || calls <= 2 {
			t.Errorf("got %q, %d dropped", got, l.Dropped())
		}
	})
}

func TestDropThatFailsIsTriedAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var broken atomic.Bool
		broken.Store(true)
		m := &memory{fail: func(_ context.Context, call string) error {
			if call == "drop" && broken.Load() {
				return errDiskFull
			}
			return nil
		}}
		l := New(m, exec, nil, Options{Head: 1 << 10, Tail: 16 << 10})
		write := func() {
			l.Write(t.Context(), 1, Stdout, time.Now(), make([]byte, 64<<10))
			elapse(time.Minute)
		}
		write()
		if l.Dropped() != 0 || m.size() != 64<<10 {
			t.Errorf("%d counted as dropped, %d kept", l.Dropped(), m.size())
		}
		broken.Store(false)
		write()
		closeLog(t, l)
		if m.size() > 17<<10 || l.Dropped()+m.size() != 128<<10 {
			t.Errorf("%d dropped, %d kept", l.Dropped(), m.size())
		}
	})
}

func TestStoreThatHangsDelaysAnExecutionOnlyOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := &memory{fail: func(ctx context.Context, _ string) error {
			<-ctx.Done()
			return ctx.Err()
		}}
		l := New(m, exec, nil, Options{})
		start := time.Now()
		for range 100 {
			l.Write(t.Context(), 1, Stdout, time.Now(), make([]byte, 64<<10))
		}
		if waited := time.Since(start); waited > patience+time.Second {
			t.Errorf("the execution waited %s", waited)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start = time.Now()
		if err := l.Close(ctx); err == nil || time.Since(start) > 2*time.Second {
			t.Errorf("Close took %s: %v", time.Since(start), err)
		}
		if l.Dropped() != 100*64<<10 || l.Offset() != l.Dropped() {
			t.Errorf("%d dropped of %d", l.Dropped(), l.Offset())
		}
		l.Write(t.Context(), 1, Stdout, time.Now(), []byte("late"))
		if l.Dropped() != l.Offset() {
			t.Error("a write after Close is not counted")
		}
	})
}

func TestSlowStoreLosesNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := &memory{fail: func(context.Context, string) error { elapse(500 * time.Millisecond); return nil }}
		l := New(m, exec, nil, Options{})
		for range 64 {
			l.Write(t.Context(), 1, Stdout, time.Now(), make([]byte, 64<<10))
		}
		closeLog(t, l)
		if m.size() != 64*64<<10 || l.Dropped() != 0 {
			t.Errorf("%d kept, %d dropped", m.size(), l.Dropped())
		}
	})
}

func TestTextIsMaskedCleanedAndBounded(t *testing.T) {
	t.Parallel()
	l := New(&memory{}, exec, maskOf(t, canary), Options{})
	defer closeLog(t, l)
	for in, want := range map[string]string{
		"login of " + canary + " failed": "login of *** failed",
		"can\x1b[1mary-5ecret":           "***",
		"a\x1b]0;x\x07b\u202ec":          `ab\u202ec`,
		"":                               "",
	} {
		if got := l.Text(in); got != want {
			t.Errorf("Text(%q) = %q, want %q", in, got, want)
		}
	}
	long := l.Text(strings.Repeat("ä", 40<<10) + canary)
	if len(long) > maxText+40 || !strings.HasSuffix(long, "… (16387 bytes more)") || unsafe(long, false) != "" {
		t.Errorf("long text ends with %q, %d bytes", long[len(long)-40:], len(long))
	}
}

func TestRandomWritesAreKeptInOrderWithoutSecrets(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		type write struct {
			step   int
			stream string
			text   string
		}
		word := rapid.SampledFrom([]string{"a", "line\n", canary, canary[:4], canary[4:], "Y2FuYXJ5LTVlY3JldA", strings.Repeat("z", 700)})
		writes := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) write {
			return write{1, rapid.SampledFrom([]string{Stdout, Stderr}).Draw(t, "stream"), word.Draw(t, "text")}
		}), 0, 40).Draw(rt, "writes")
		m := &memory{}
		mask := maskOf(t, canary)
		l := New(m, exec, mask, Options{Delay: time.Microsecond, Tail: 128 << 10})
		want := map[string]string{}
		for _, w := range writes {
			l.Write(t.Context(), w.step, w.stream, time.Now(), []byte(w.text))
			want[w.stream] += w.text
		}
		if err := l.Close(t.Context()); err != nil {
			rt.Fatal(err)
		}
		for stream, text := range want {
			if got := m.text(stream); got != mask.String(text) {
				rt.Fatalf("%s: got %q, want %q", stream, got, mask.String(text))
			}
		}
		var at int64
		for _, c := range m.chunks {
			if c.Offset != at {
				rt.Fatalf("chunk at %d, want %d", c.Offset, at)
			}
			at = c.End()
		}
		if at != l.Offset() || l.Dropped() != 0 {
			rt.Fatalf("end %d, offset %d, dropped %d", at, l.Offset(), l.Dropped())
		}
	})
}
