package grant

import "time"

// Chunk is a piece of an execution's log. Chunks of an execution follow each
// other by Offset; a gap between them is output that was dropped.
type Chunk struct {
	Execution string    `json:"execution"`
	Offset    int64     `json:"offset"` // of the first byte of Data in the whole log
	At        time.Time `json:"at"`
	Step      int       `json:"step"`
	Stream    string    `json:"stream"` // stdout, stderr, runner
	Data      []byte    `json:"data"`   // masked already
}

// End is the offset after the last byte.
func (c Chunk) End() int64 { return c.Offset + int64(len(c.Data)) }
