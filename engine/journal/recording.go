package journal

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"runner/engine/secret"
)

// Streams of a recording, beside Runner for what runner itself has to say.
const (
	Shown = "shown" // what the terminal was sent
	Typed = "typed" // what the person typed
	Size  = "size"  // columns and rows of the terminal, as 80x24
)

const (
	// frame is how far apart in time two bytes may be and still be played at once.
	frame = 20 * time.Millisecond
	// lag is what a crash may cost of the end of a recording.
	lag = 100 * time.Millisecond
)

// Recording is what a session shows, while it is written: a Log under the id of the
// session, so that it is masked, bounded, and there up to the moment of a crash. Its
// methods may be called by several goroutines. Close ends it.
type Recording struct {
	log *Log
	now func() time.Time
}

// Record starts the recording of a session that has none yet.
func Record(chunks Chunks, session string, mask *secret.Mask, now func() time.Time) *Recording {
	return &Recording{log: New(chunks, session, mask, Options{Merge: frame, Delay: lag}), now: now}
}

// Show adds what the terminal was sent.
func (r *Recording) Show(p []byte) { r.log.Write(context.Background(), 0, Shown, r.now(), p) }

// Type adds what the person typed.
func (r *Recording) Type(p []byte) { r.log.Write(context.Background(), 0, Typed, r.now(), p) }

// Resize adds a size of the terminal.
func (r *Recording) Resize(cols, rows int) {
	// A size is whole in one chunk: the end of its own step passes it on.
	r.log.Write(context.Background(), 1, Size, r.now(), fmt.Appendf(nil, "%dx%d\n", cols, rows))
	r.log.EndStep(1)
}

// Close stores what is left. It returns how much was recorded, and how much of that
// is not kept.
func (r *Recording) Close(ctx context.Context) (bytes, dropped int64, err error) {
	err = r.log.Close(ctx)
	return r.log.Offset(), r.log.Dropped(), err
}

// Moment is a piece of a recording.
type Moment struct {
	At      time.Time
	Stream  string
	Data    []byte
	Missing int64 // bytes that are not kept, in front of it
}

// Moments yields a recording from its start.
func Moments(ctx context.Context, chunks Chunks, session string) iter.Seq2[Moment, error] {
	return func(yield func(Moment, error) bool) {
		var at int64
		for c, err := range Read(ctx, chunks, session, 0) {
			if err != nil {
				yield(Moment{}, err)
				return
			}
			m := Moment{At: c.At, Stream: c.Stream, Data: c.Data, Missing: c.Offset - at}
			at = c.End()
			if !yield(m, nil) {
				return
			}
		}
	}
}

// ErrNothingRecorded says that a session has no recording.
var ErrNothingRecorded = errors.New("nothing was recorded of this session")

// Cast writes a recording in the format of asciinema, version 2: a header and a line
// for each moment (docs.asciinema.org/manual/asciicast/v2). What is missing becomes a
// marker.
func Cast(w io.Writer, title, term string, moments iter.Seq2[Moment, error]) error {
	var (
		start time.Time
		rest  = map[string][]byte{} // starts of characters
	)
	line := func(v any) error {
		b, err := json.Marshal(v)
		if err == nil {
			_, err = w.Write(append(b, '\n'))
		}
		return err
	}
	for m, err := range moments {
		if err != nil {
			return err
		}
		if start.IsZero() {
			start = m.At
			cols, rows, sized := size(m)
			if !sized {
				cols, rows = 80, 24
			}
			head := castHeader{Version: 2, Width: cols, Height: rows, Timestamp: start.Unix(), Title: title, Env: map[string]string{"TERM": term}}
			if err := line(head); err != nil {
				return err
			}
			if sized {
				continue
			}
		}
		seconds := m.At.Sub(start).Seconds()
		if m.Missing > 0 {
			if err := line([]any{seconds, "m", fmt.Sprintf("%d bytes are missing", m.Missing)}); err != nil {
				return err
			}
		}
		code, text := castEvent(m, rest)
		if text == "" {
			continue
		}
		if err := line([]any{seconds, code, text}); err != nil {
			return err
		}
	}
	if start.IsZero() {
		return ErrNothingRecorded
	}
	return nil
}

type castHeader struct {
	Version   int               `json:"version"`
	Width     int               `json:"width"`
	Height    int               `json:"height"`
	Timestamp int64             `json:"timestamp"`
	Title     string            `json:"title,omitempty"`
	Env       map[string]string `json:"env"`
}

// castEvent returns code and text of a moment; a character that is not whole yet
// waits in rest.
func castEvent(m Moment, rest map[string][]byte) (code, text string) {
	switch m.Stream {
	case Size:
		return "r", strings.TrimSpace(string(m.Data))
	case Runner:
		return "m", strings.TrimSpace(string(m.Data))
	case Typed:
		code = "i"
	default:
		code = "o"
	}
	data := slices.Concat(rest[m.Stream], m.Data)
	whole := len(data)
	for back := 1; back <= min(utf8.UTFMax-1, len(data)); back++ {
		if b := data[len(data)-back]; utf8.RuneStart(b) {
			if !utf8.FullRune(data[len(data)-back:]) {
				whole = len(data) - back
			}
			break
		}
	}
	rest[m.Stream] = slices.Clone(data[whole:])
	return code, strings.ToValidUTF8(string(data[:whole]), "\ufffd")
}

// size reads a moment that tells one.
func size(m Moment) (cols, rows int, is bool) {
	if m.Stream != Size {
		return 0, 0, false
	}
	c, r, _ := strings.Cut(strings.TrimSpace(string(m.Data)), "x")
	cols, cerr := strconv.Atoi(c)
	rows, rerr := strconv.Atoi(r)
	return cols, rows, cerr == nil && rerr == nil
}
