package journal

import (
	"context"
	"time"

	"runner/engine/grant"
)

// own is the goroutine that stores what is queued, until Close.
func (l *Log) own(ctx context.Context) {
	defer close(l.done)
	defer l.stop()
	pause, full := l.delay, l.full
	for {
		select {
		case <-l.wake:
		case <-l.quit:
			l.finish(ctx)
			return
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-full:
		case <-l.quit:
		}
		timer.Stop()
		if l.store(ctx) {
			pause, full = l.delay, l.full
			continue
		}
		// A store that fails is not asked more often because more is written.
		pause, full = min(2*pause, maxBackoff), nil
		signal(l.wake)
	}
}

// store stores what is queued now and reports whether that went well. What
// could not be stored waits at the front of the queue.
func (l *Log) store(ctx context.Context) bool {
	l.mu.Lock()
	batch := l.queue
	l.queue, l.tried = nil, 0
	l.mu.Unlock()
	for len(batch) > 0 {
		n := l.keep.fits(batch)
		if err := l.call(ctx, func(ctx context.Context) error { return l.chunks.AppendLog(ctx, batch[:n]) }); err != nil {
			l.back(batch)
			return false
		}
		l.account(batch[:n])
		batch = batch[n:]
		l.trim(ctx)
	}
	return true
}

// back puts chunks to the front of the queue again. They may have been stored
// for all that, as after a time-out, so nothing is added to them.
func (l *Log) back(batch []grant.Chunk) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.queue = append(batch, l.queue...)
	l.tried = len(batch)
}

// account notes that chunks were stored.
func (l *Log) account(stored []grant.Chunk) {
	l.keep.stored(stored)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.queued -= cost(stored)
	l.release()
}

// trim drops old chunks of the tail while there are too many. What cannot be
// dropped now is tried again with the next batch.
func (l *Log) trim(ctx context.Context) {
	from, to, bytes := l.keep.over()
	if bytes == 0 {
		return
	}
	err := l.call(ctx, func(ctx context.Context) error { return l.chunks.DropLog(ctx, l.exec, from, to) })
	if err != nil {
		return
	}
	l.keep.drop(to)
	l.mu.Lock()
	l.dropped += bytes
	l.mu.Unlock()
}

// call calls the store and keeps account of its failures.
func (l *Log) call(ctx context.Context, do func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, storeLimit)
	defer cancel()
	err := do(ctx)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.down = err != nil
	if err != nil {
		l.failures++
		l.lastErr = err
		l.release()
	}
	return err
}

// finish stores the rest; what the store does not take now is lost.
func (l *Log) finish(ctx context.Context) {
	l.store(ctx)
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.queue {
		l.lost += int64(len(c.Data))
	}
	l.queue, l.queued = nil, 0
	l.release()
}

// release wakes the writers that wait for room; mu is held.
func (l *Log) release() {
	close(l.room)
	l.room = make(chan struct{})
}

func cost(chunks []grant.Chunk) int {
	n := 0
	for _, c := range chunks {
		n += chunkCost + len(c.Data)
	}
	return n
}

// keeper decides which stored chunks stay: all that start before head, and of
// the others the last ones, at most tail bytes. It forgets them in slabs, so
// that dropping is rare and its own memory small. It belongs to the owner
// goroutine, but for its limits, which do not change.
type keeper struct {
	head, tail, slab int64
	slabs            []slab
	held             int64 // bytes in slabs
}

// slab is a run of stored chunks of the tail.
type slab struct{ from, to, bytes int64 }

// fits returns how many chunks of a batch may be stored before dropping.
func (k *keeper) fits(batch []grant.Chunk) int {
	var sum int64
	for i, c := range batch {
		if sum += int64(len(c.Data)); sum > k.slab && i > 0 {
			return i
		}
	}
	return len(batch)
}

// stored notes chunks that were stored.
func (k *keeper) stored(batch []grant.Chunk) {
	for _, c := range batch {
		if c.Offset < k.head {
			continue
		}
		n := len(k.slabs)
		if n == 0 || k.slabs[n-1].bytes+int64(len(c.Data)) > k.slab {
			k.slabs = append(k.slabs, slab{from: c.Offset})
			n++
		}
		k.slabs[n-1].to = c.End()
		k.slabs[n-1].bytes += int64(len(c.Data))
		k.held += int64(len(c.Data))
	}
}

// over returns the range to drop, so that another batch fits below the limit,
// and how many stored bytes it holds.
func (k *keeper) over() (from, to, bytes int64) {
	for i, s := range k.slabs {
		if k.held-bytes <= k.tail-k.slab {
			break
		}
		if i == 0 {
			from = s.from
		}
		to = s.to
		bytes += s.bytes
	}
	return from, to, bytes
}

// drop forgets the slabs up to an offset.
func (k *keeper) drop(to int64) {
	n := 0
	for n < len(k.slabs) && k.slabs[n].to <= to {
		k.held -= k.slabs[n].bytes
		n++
	}
	k.slabs = append(k.slabs[:0], k.slabs[n:]...)
}
