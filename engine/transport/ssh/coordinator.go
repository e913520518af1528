package ssh

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"time"

	gossh "golang.org/x/crypto/ssh"
)

// maxNoise bounds what is kept of the output before a program's first frame.
const maxNoise = 16 << 10

// coordinator is a shell on the device that runs the programs it is sent, one
// after the other. It belongs to one conn. Its goroutines end with the channel.
type coordinator struct {
	ch      gossh.Channel
	id      string // in the exec line: marks programs, the sudo prompt and readiness
	nonce   string // in frames; never in argv or in the environment
	peer    string // what the server says it is
	pty     bool
	have    sent
	greeted bool // the prelude was sent
	items   chan item
	quit    chan struct{} // closed when nobody takes items any more
	once    sync.Once
	exited  chan struct{} // closed when the server ended the channel
	status  int           // exit status, or -1; valid after exited
	noise   []item        // text from before the first program

	pid, pgid, sid, start string // of the coordinator, once it has said so
}

// launch opens a session and starts the exec line in it. No answer is waited
// for but the channel's.
func launch(ctx context.Context, e *entry, line func(id string) string, pty bool) (*coordinator, error) {
	ch, reqs, err := openSession(ctx, e)
	if err != nil {
		return nil, err
	}
	c := &coordinator{
		ch: ch, id: token(8), nonce: token(12), peer: e.peer.Software, pty: pty, have: sent{}, status: -1,
		items: make(chan item), quit: make(chan struct{}), exited: make(chan struct{}),
	}
	go c.requests(reqs)
	if pty {
		req := struct {
			Term                   string
			Cols, Rows, Wide, High uint32
			Modes                  string
		}{"dumb", 80, 24, 0, 0, "\x35\x00\x00\x00\x00\x00"} // ECHO off
		if _, err = ch.SendRequest("pty-req", false, gossh.Marshal(&req)); err != nil {
			c.close()
			return nil, err
		}
	}
	if _, err = ch.SendRequest("exec", false, gossh.Marshal(&struct{ Command string }{line(c.id)})); err != nil {
		c.close()
		return nil, err
	}
	go c.read(0, ch)
	go c.read(1, ch.Stderr())
	return c, nil
}

// openSession opens a channel, or returns with the context's error; a channel
// that comes later is closed.
func openSession(ctx context.Context, e *entry) (gossh.Channel, <-chan *gossh.Request, error) {
	type answer struct {
		ch   gossh.Channel
		reqs <-chan *gossh.Request
		err  error
	}
	got := make(chan answer, 1)
	go func() {
		ch, reqs, err := e.client.OpenChannel("session", nil)
		got <- answer{ch, reqs, err}
	}()
	select {
	case a := <-got:
		return a.ch, a.reqs, a.err
	case <-ctx.Done():
		go func() {
			if a := <-got; a.err == nil {
				go gossh.DiscardRequests(a.reqs)
				_ = a.ch.Close()
			}
		}()
		return nil, nil, ctx.Err()
	}
}

// token returns n random bytes in hex.
func token(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails
	return hex.EncodeToString(b)
}

// requests notes how the remote command ended.
func (c *coordinator) requests(reqs <-chan *gossh.Request) {
	defer close(c.exited)
	for r := range reqs {
		if r.Type == "exit-status" {
			var m struct{ Status uint32 }
			if gossh.Unmarshal(r.Payload, &m) == nil {
				c.status = int(m.Status & 0xff)
			}
		}
		if r.Type == "exit-signal" {
			c.status = 255
		}
		if r.WantReply {
			_ = r.Reply(false, nil)
		}
	}
}

// read takes a stream apart until it ends. After close it only drains.
func (c *coordinator) read(stream int, r io.Reader) {
	p := newParser(stream, c.nonce, func(it item) {
		select {
		case c.items <- it:
		case <-c.quit:
		}
	})
	buf := make([]byte, 32<<10)
	for {
		n, err := r.Read(buf)
		if n > 0 {
			p.feed(buf[:n])
		}
		if err != nil {
			p.end()
			return
		}
	}
}

// close ends the session without waiting for the device.
func (c *coordinator) close() {
	c.once.Do(func() {
		close(c.quit)
		_ = c.ch.Close()
	})
}

// exitCut is the status of a coordinator that got a program in part (EX_DATAERR
// of sysexits.h).
const exitCut = 65

// loop is the program that the login shell is asked to run: it reads "id:LENGTH"
// lines and evaluates the programs that follow them. A program that was cut
// short is shorter than it was said to be (some shells count characters, so
// their programs are looked at again) and lacks its end mark: it ends the loop with exitCut; every
// other line is dropped, such as a password that sudo did not want. There is no
// quote, backslash, exclamation mark or line end in it, so that csh and fish
// read it as sh does.
func loop(id string, ready bool) string {
	say := ""
	if ready {
		say = "echo " + id + "-ready; "
	}
	return "LC_ALL=C; export LC_ALL; " + say + "while read -r __l; do case $__l in " + id +
		":*) __p=$(head -c ${__l#*:}); [ ${#__p} = ${__l#*:} ] || case $__p in *\"#" + id + "\") ;; *) exit " + strconv.Itoa(exitCut) + ";; esac; eval \"$__p\";; esac; done"
}

// send writes a program. The first one carries the prelude.
func (c *coordinator) send(program string) error {
	var b strings.Builder
	b.WriteString("__p=\n")
	if !c.greeted {
		b.WriteString(newPrelude(c.nonce, c.peer, !c.pty))
		c.greeted = true
	}
	b.WriteString(program)
	b.WriteString("\n#" + c.id)
	_, err := io.WriteString(c.ch, fmt.Sprintf("%s:%d\n", c.id, b.Len())+b.String())
	if err != nil {
		return fmt.Errorf("send the program: %w", err)
	}
	return nil
}

// errEnded says that the coordinator went away.
var errEnded = errors.New("the shell on the device has ended")

// ended waits a moment for the exit status after the streams have ended, and
// says whether the device closed the session in order.
func (c *coordinator) ended(patience time.Duration) (status int, orderly bool) {
	t := time.NewTimer(patience)
	defer t.Stop()
	select {
	case <-c.exited:
		return c.status, c.status >= 0
	case <-t.C:
		return -1, false
	}
}
