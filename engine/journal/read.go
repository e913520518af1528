package journal

import (
	"context"
	"fmt"
	"iter"
	"time"

	"runner/engine/grant"
)

// maxRead is how much is read at once, in bytes.
const maxRead = 256 << 10

// Read returns what is stored of an execution's log from an offset on, by
// offset. The first chunk is cut to start at from; where a chunk starts later
// than the one before ended, output was dropped. After an error nothing more
// comes; the log can be read on from the end of the last chunk.
func Read(ctx context.Context, chunks Chunks, exec string, from int64) iter.Seq2[grant.Chunk, error] {
	return func(yield func(grant.Chunk, error) bool) {
		if _, _, err := read(ctx, chunks, exec, from, yield); err != nil {
			yield(grant.Chunk{}, err)
		}
	}
}

// Follow is Read that goes on while the execution runs: at the end of what is
// stored it waits for an interval (0: 200 ms) and looks again, until ended
// reports true or ctx ends, which is not an error of the log. It stops after
// everything that was stored before the end was returned.
func Follow(ctx context.Context, chunks Chunks, exec string, from int64, interval time.Duration, ended func(context.Context) (bool, error)) iter.Seq2[grant.Chunk, error] {
	if interval <= 0 {
		interval = 200 * time.Millisecond
	}
	return func(yield func(grant.Chunk, error) bool) {
		tick := time.NewTicker(interval)
		defer tick.Stop()
		for at := from; ; {
			// Asked first: what was stored before the end is read after it.
			last, err := ended(ctx)
			end, more := at, false
			if err == nil {
				end, more, err = read(ctx, chunks, exec, at, yield)
			}
			if err != nil && ctx.Err() == nil {
				yield(grant.Chunk{}, err)
			}
			if err != nil || last || !more {
				return
			}
			at = end
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
		}
	}
}

// read yields what is stored and returns where it ended, and whether the
// caller wants more.
func read(ctx context.Context, chunks Chunks, exec string, from int64, yield func(grant.Chunk, error) bool) (end int64, more bool, err error) {
	for {
		got, err := chunks.ReadLog(ctx, exec, from, maxRead)
		if err != nil {
			return from, false, fmt.Errorf("journal: read the log of %s at %d: %w", exec, from, err)
		}
		before := from
		for _, c := range got {
			if c.End() <= from {
				continue
			}
			if c.Offset < from {
				c.Data = c.Data[from-c.Offset:]
				c.Offset = from
			}
			from = c.End()
			if !yield(c, nil) {
				return from, false, nil
			}
		}
		if from == before {
			return from, true, nil
		}
	}
}
