package journal

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"runner/engine/grant"
	"runner/engine/secret"
)

const (
	// maxChunk is the largest chunk, and how much is gathered at most before it
	// is stored, in bytes.
	maxChunk = 16 << 10
	// maxQueue is how much may wait for the store, in bytes.
	maxQueue = 1 << 20
	// chunkCost is what a chunk takes beside its data, in bytes, so that many
	// tiny ones are bounded too.
	chunkCost = 128
	// maxPiece is how much of a write is masked at once.
	maxPiece = 64 << 10
	// patience is how long a write waits for a store that does not keep up,
	// before output is dropped instead.
	patience = 5 * time.Second
	// storeLimit is how long one call of the store may take.
	storeLimit = 10 * time.Second
	// maxBackoff is the longest pause after a call of the store that failed.
	maxBackoff = 5 * time.Second
)

// Options of a Log. The zero value is what runner uses.
type Options struct {
	Delay time.Duration // how long output may wait to be stored; 0: 200 ms
	Merge time.Duration // how far apart in time the bytes of a chunk may be; 0: Delay
	Head  int64         // bytes kept from the start; 0: 32 MiB
	Tail  int64         // bytes kept from the end; 0: 32 MiB
}

// Log is the log of one execution while it is written. Close ends it. Its
// methods may be called by several goroutines; the bytes of one stream of a
// step come from one of them.
type Log struct {
	chunks Chunks
	exec   string
	mask   *secret.Mask
	delay  time.Duration
	merge  time.Duration
	size   int // of the largest chunk
	keep   keeper
	stop   context.CancelFunc

	wake chan struct{} // something is queued
	full chan struct{} // it is worth storing at once
	quit chan struct{} // Close was called
	done chan struct{} // the owner goroutine has ended

	mu       sync.Mutex
	streams  map[source]*secret.Stream
	queue    []grant.Chunk
	queued   int           // cost of the queue and of what is being stored
	tried    int           // chunks at the front of the queue that were tried already
	room     chan struct{} // closed when queued has become less
	next     int64         // offset of the next byte
	lost     int64         // bytes that have an offset and were never stored
	dropped  int64         // bytes that were stored and dropped again
	failures int           // calls of the store that failed
	lastErr  error         // of the store
	down     bool          // the last call of the store failed or takes too long
	closed   bool
}

type source struct {
	step   int
	stream string
}

// sortSources sorts by step, stdout before stderr.
func sortSources(all []source) {
	slices.SortFunc(all, func(a, b source) int {
		return cmp.Or(cmp.Compare(a.step, b.step), cmp.Compare(b.stream, a.stream))
	})
}

// New starts the log of an execution that has none yet. Everything written
// goes through mask first; secrets may still be added to it.
func New(chunks Chunks, exec string, mask *secret.Mask, opts Options) *Log {
	if opts.Delay <= 0 {
		opts.Delay = 200 * time.Millisecond
	}
	if opts.Merge <= 0 {
		opts.Merge = opts.Delay
	}
	if opts.Head <= 0 {
		opts.Head = 32 << 20
	}
	if opts.Tail <= 0 {
		opts.Tail = 32 << 20
	}
	keep := keeper{head: opts.Head, tail: opts.Tail, slab: max(1, opts.Tail/128)}
	ctx, stop := context.WithCancel(context.Background())
	l := &Log{
		chunks: chunks, exec: exec, mask: mask, delay: opts.Delay, merge: opts.Merge, keep: keep, stop: stop,
		size: int(min(maxChunk, keep.slab)),
		wake: make(chan struct{}, 1), full: make(chan struct{}, 1),
		quit: make(chan struct{}), done: make(chan struct{}), room: make(chan struct{}),
		streams: map[source]*secret.Stream{},
	}
	go l.own(ctx)
	return l
}

// Write adds output of a step that arrived at a time. It never fails: when the
// store does, bytes are dropped and counted, and Close reports it. It waits
// for a store that is slow, at most 5 seconds or until ctx ends.
func (l *Log) Write(ctx context.Context, step int, stream string, at time.Time, data []byte) {
	for piece := range slices.Chunk(data, maxPiece) {
		l.admit(ctx)
		l.mu.Lock()
		l.add(source{step, stream}, at, l.stream(step, stream).Write(piece))
		l.mu.Unlock()
	}
}

// Note adds a line of runner's own about a step; 0: about the execution.
func (l *Log) Note(step int, text string) {
	text = lines(l.Text(text))
	l.mu.Lock()
	defer l.mu.Unlock()
	l.add(source{step, Runner}, time.Now(), []byte(text))
}

// EndStep passes on what the masks of a step's streams held back and has all
// of it stored soon. Offset is the end of the step's range afterwards.
func (l *Log) EndStep(step int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.flush(func(s source) bool { return s.step == step })
	if len(l.queue) > 0 {
		signal(l.full)
	}
}

// Text returns s as it may be kept: see Redact. Every string of an execution
// that is stored or shown goes through it.
func (l *Log) Text(s string) string { return Redact(l.mask, s) }

// Offset returns where the next byte goes: how many bytes were written so far,
// dropped ones included, but not what a mask still holds back.
func (l *Log) Offset() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.next
}

// Dropped returns how many bytes before Offset cannot be read, because they
// were over the limit or the store failed. It is exact after Close.
func (l *Log) Dropped() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.dropped + l.lost
}

// Close stores what is left, stops the Log and returns an error if bytes were
// lost because the store failed; bytes over the limit are none. When ctx ends,
// what is not stored by then is lost. Later writes are counted as dropped.
func (l *Log) Close(ctx context.Context) error {
	l.mu.Lock()
	if !l.closed {
		l.flush(func(source) bool { return true })
		l.closed = true
		close(l.quit)
	}
	l.mu.Unlock()
	select {
	case <-l.done:
	case <-ctx.Done():
		l.stop()
		<-l.done
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lost == 0 {
		return nil
	}
	if l.lastErr == nil {
		return fmt.Errorf("journal: %d bytes of the log of %s are lost: the store did not keep up", l.lost, l.exec)
	}
	return fmt.Errorf("journal: %d bytes of the log of %s are lost, %d writes failed: %w", l.lost, l.exec, l.failures, l.lastErr)
}

// stream returns the mask of a stream; mu is held.
func (l *Log) stream(step int, stream string) *secret.Stream {
	s := source{step, stream}
	if l.streams[s] == nil {
		l.streams[s] = l.mask.Stream()
	}
	return l.streams[s]
}

// flush ends the masks of some streams; mu is held.
func (l *Log) flush(which func(source) bool) {
	var ended []source
	for s := range l.streams {
		if which(s) {
			ended = append(ended, s)
		}
	}
	sortSources(ended)
	for _, s := range ended {
		l.add(s, time.Now(), l.streams[s].Flush())
		delete(l.streams, s)
	}
}

// add queues masked bytes; mu is held. What finds no room gets its offsets and
// is lost: readers see the gap.
func (l *Log) add(from source, at time.Time, data []byte) {
	if l.closed || l.queued >= maxQueue {
		l.next += int64(len(data))
		l.lost += int64(len(data))
		return
	}
	for len(data) > 0 {
		c := l.open(from, at)
		n := min(len(data), l.size-len(c.Data))
		if l.next < l.keep.head {
			n = int(min(int64(n), l.keep.head-l.next)) // no chunk across the border
		}
		c.Data = append(c.Data, data[:n]...)
		data = data[n:]
		l.next += int64(n)
		l.queued += n
	}
	if len(l.queue) > 0 {
		signal(l.wake)
	}
	if l.queued >= maxChunk {
		signal(l.full)
	}
}

// open returns the queued chunk that the next byte belongs to; mu is held.
func (l *Log) open(from source, at time.Time) *grant.Chunk {
	if n := len(l.queue); n > l.tried {
		c := &l.queue[n-1]
		late := at.Sub(c.At)
		if c.Step == from.step && c.Stream == from.stream && c.End() == l.next && l.next != l.keep.head &&
			len(c.Data) < l.size && late >= 0 && late < l.merge {
			return c
		}
	}
	l.queue = append(l.queue, grant.Chunk{Execution: l.exec, Offset: l.next, At: at.UTC(), Step: from.step, Stream: from.stream})
	l.queued += chunkCost
	return &l.queue[len(l.queue)-1]
}

// admit waits until the queue has room. A store that is down is not waited for.
func (l *Log) admit(ctx context.Context) {
	l.mu.Lock()
	if l.queued < maxQueue || l.down || l.closed {
		l.mu.Unlock()
		return
	}
	room := l.room
	l.mu.Unlock()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for {
		select {
		case <-room:
		case <-ctx.Done():
			return
		case <-timer.C:
			l.mu.Lock()
			l.down = true
			l.mu.Unlock()
			return
		}
		l.mu.Lock()
		free := l.queued < maxQueue || l.down || l.closed
		room = l.room
		l.mu.Unlock()
		if free {
			return
		}
	}
}

// signal leaves a token for a goroutine that will look.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
