package ssh

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"runner/engine/transport"
)

// verdict is what a text on the error stream says about why there is no shell.
type verdict struct {
	phase      transport.Phase
	code, says string
	hint       string
}

// verdicts are looked for in what a device wrote instead of running a program.
// sudo is run with LC_ALL=C, so its words are these.
var verdicts = []struct {
	text string
	verdict
}{
	{"you must have a tty", verdict{transport.PhaseBecome, codeTTY, "sudo wants a terminal (requiretty)", "remove requiretty for this account in sudoers"}},
	{"is not in the sudoers file", verdict{transport.PhaseBecome, "become.not_in_sudoers", "the login account is not in the sudoers file", "add a rule such as: ACCOUNT ALL=(ALL) NOPASSWD: ALL"}},
	{"may not run sudo", verdict{transport.PhaseBecome, "become.not_in_sudoers", "the login account may not run sudo on this host", "add a rule such as: ACCOUNT ALL=(ALL) NOPASSWD: ALL"}},
	{"is not allowed to execute", verdict{transport.PhaseBecome, "become.not_allowed", "sudo does not allow this account to run /bin/sh", "allow /bin/sh -c * as the wanted account in sudoers"}},
	{"password is required", verdict{transport.PhaseBecome, "become.password_required", "sudo wants a password", "set password_from under become, or give the account NOPASSWD"}},
	{"unknown user", verdict{transport.PhaseBecome, "become.unknown_account", "the account to become does not exist on the device", "check become in the template"}},
	{"incorrect password attempt", verdict{transport.PhaseBecome, codeWrong, "sudo refused the password", "check the password of become; it was tried once only"}},
	{"no password was provided", verdict{transport.PhaseBecome, codeWrong, "sudo refused the password", "check the password of become; it was tried once only"}},
	{"sudo: not found", verdict{transport.PhaseBecome, "become.no_sudo", "there is no sudo on the device", "install sudo, or log in as the wanted account"}},
	{"sudo: command not found", verdict{transport.PhaseBecome, "become.no_sudo", "there is no sudo on the device", "install sudo, or log in as the wanted account"}},
	{"sudo: No such file", verdict{transport.PhaseBecome, "become.no_sudo", "there is no sudo on the device", "install sudo, or log in as the wanted account"}},
	{"account is currently not available", verdict{transport.PhaseExec, "exec.no_shell", "the login account has no shell (nologin)", "give the login account a shell"}},
	{"sudo: ", verdict{transport.PhaseBecome, "become.failed", "sudo did not run the shell", "try sudo by hand on the device"}},
}

// Codes that the program branches on.
const (
	codeTTY   = "become.tty_required"
	codeWrong = "become.wrong_password"
)

// judge explains a session that ended before its first frame.
func (n *conn) judge(noise []byte, status int) *transport.Error {
	text := clean(string(noise), 300)
	v := verdict{transport.PhaseExec, "exec.no_shell", fmt.Sprintf("the device ended the session with status %d", status), "log in by hand and look whether /bin/sh starts"}
	if status == exitCut {
		v = verdict{transport.PhaseExec, "exec.cut", "the program did not arrive whole", "a /bin/sh that cannot hold every byte (yash) takes values in ASCII only; make dash or bash the device's /bin/sh"}
	}
	for _, k := range verdicts {
		if bytes.Contains(noise, []byte(k.text)) {
			v = k.verdict
			break
		}
	}
	err := errors.New(v.says)
	if text != "" {
		err = fmt.Errorf("%w: %s", err, text)
	}
	return n.cfg.fail(v.phase, v.code, err, v.hint)
}

// launch starts a coordinator as account. With a sudo password, or on a
// terminal, it waits until the shell is there; otherwise it does not wait.
func (n *conn) launch(ctx context.Context, account string) (*coordinator, error) {
	become := account != n.cfg.User
	pty := become && n.tty[account]
	password := become && !n.cfg.Become.Password.IsZero()
	line := func(id string) string {
		sh := "/bin/sh -c '" + loop(id, password || pty) + "'"
		switch {
		case password:
			sh = "exec env LC_ALL=C sudo -S -p " + id + ": -u " + account + " " + sh
		case become:
			sh = "exec env LC_ALL=C sudo -n -u " + account + " " + sh
		default:
			sh = "exec " + sh
		}
		if pty {
			sh = "stty raw -echo; " + sh
		}
		return sh
	}
	c, err := launch(ctx, n.ent, line, pty)
	if err != nil {
		return nil, err
	}
	if !password && !pty {
		return c, nil
	}
	if err := n.await(ctx, c, password); err != nil {
		c.close()
		if te, ok := errors.AsType[*transport.Error](err); ok && te.Code == codeTTY && !pty {
			n.tty[account] = true
			return n.launch(ctx, account)
		}
		return nil, err
	}
	return c, nil
}

// await gives sudo the password, once, and waits for the shell. A second prompt
// means that the password is wrong: the input is closed at once, before sudo
// could take anything else for another attempt.
func (n *conn) await(ctx context.Context, c *coordinator, password bool) error {
	late := time.NewTimer(n.cfg.DialTimeout)
	defer late.Stop()
	tell := func() { go func() { _, _ = io.WriteString(c.ch, n.cfg.Become.Password.Reveal()+"\n") }() }
	told, refused := false, false
	if password && !c.pty {
		tell()
		told = true
	}
	var said [2][]byte
	prompt, ready := []byte(c.id+":"), []byte(c.id+"-ready")
	eofs := 0
	for {
		var it item
		select {
		case it = <-c.items:
		case <-ctx.Done():
			return n.cfg.fail(transport.PhaseBecome, "cancelled", ctx.Err(), "")
		case <-late.C:
			return n.cfg.fail(transport.PhaseBecome, "become.timeout", fmt.Errorf("no shell within %s", n.cfg.DialTimeout), "does sudo ask something else, such as a one-time code?")
		}
		if it.eof {
			if eofs++; eofs < 2 {
				continue
			}
			status, _ := c.ended(2 * time.Second)
			if refused {
				return n.judge([]byte("incorrect password attempt"), status)
			}
			return n.judge(append(said[1], said[0]...), status)
		}
		s := &said[it.stream]
		*s = append(*s, it.text...)
		if len(*s) > maxNoise {
			*s = (*s)[len(*s)-maxNoise:]
		}
		if i := bytes.Index(*s, ready); i >= 0 {
			c.remember(said, prompt, ready)
			return nil
		}
		prompts := bytes.Count(said[0], prompt) + bytes.Count(said[1], prompt)
		switch {
		case !password:
		case prompts > 0 && !told:
			told = true
			tell()
		case !refused && (prompts > 1 || bytes.Contains(*s, []byte("Sorry, try again"))):
			refused = true
			_ = c.ch.CloseWrite()
			if c.pty { // a terminal has no end of input that way
				_ = c.ch.Close()
			}
		}
	}
}

// remember keeps what was written before the shell was there as noise.
func (c *coordinator) remember(said [2][]byte, prompt, ready []byte) {
	for i, s := range said {
		s = bytes.ReplaceAll(bytes.ReplaceAll(s, prompt, nil), append(ready, '\n'), nil)
		if t := strings.TrimSpace(string(s)); t != "" {
			c.noise = append(c.noise, item{stream: i, text: []byte(t + "\n")})
		}
	}
}
