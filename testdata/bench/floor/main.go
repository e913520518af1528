// Command floor does by hand, with nothing between it and golang.org/x/crypto/ssh,
// what runner does by templates: the time it takes is what the device and the
// network cost, and what runner is measured against.
//
//	floor -addr 127.0.0.1:2222 -key K -host-key "ssh-ed25519 A..." create|delete|grant
//	floor -fleet FILE create|delete
//
// A line of FILE is address, key file and host key of a device; all are worked on
// at once.
// create and delete are one connection and one exec each, the script on standard
// input in the same flight. grant is a whole life: what is there before, create, a
// login with the new key, delete, and that nothing is there that was not before.
// One JSON line a phase, in milliseconds. Accounts are ACCOUNT on uid UID.
package main

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/crypto/ssh"
)

type options struct {
	addr, login, scripts, account string
	uid                           int
	hostKey                       ssh.PublicKey
	admin                         ssh.Signer
	out                           *json.Encoder
}

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "floor:", err)
		os.Exit(1)
	}
}

func run(args []string, stdout io.Writer) error {
	var o options
	fs := flag.NewFlagSet("floor", flag.ContinueOnError)
	fs.StringVar(&o.addr, "addr", "", "address of sshd")
	fs.StringVar(&o.login, "login", "root", "admin account")
	fs.StringVar(&o.scripts, "scripts", "testdata/bench", "folder of create.sh, delete.sh and surface.sh")
	fs.StringVar(&o.account, "account", "jit-floor", "account to make")
	fs.IntVar(&o.uid, "uid", 60001, "its uid")
	key := fs.String("key", "", "private key file of the admin account")
	host := fs.String("host-key", "", "host key as in authorized_keys")
	fleet := fs.String("fleet", "", "file with devices instead of -addr, -key and -host-key")
	if err := fs.Parse(args); err != nil {
		return err
	}
	o.out = json.NewEncoder(stdout)
	if *fleet != "" {
		return o.many(*fleet, fs.Arg(0))
	}
	if err := o.as(*key, *host); err != nil {
		return err
	}
	return o.phase(fs.Arg(0))
}

// as reads who to be and whom to meet.
func (o *options) as(keyFile, hostKey string) error {
	pem, err := os.ReadFile(keyFile)
	if err != nil {
		return err
	}
	if o.admin, err = ssh.ParsePrivateKey(pem); err != nil {
		return err
	}
	if o.hostKey, _, _, _, err = ssh.ParseAuthorizedKey([]byte(hostKey)); err != nil {
		return fmt.Errorf("host key: %w", err)
	}
	return nil
}

// many does a phase on all devices of a file at once.
func (o *options) many(file, phase string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	begin := time.Now()
	var g sync.WaitGroup
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	errs := make([]error, len(lines))
	for i, line := range lines {
		g.Go(func() {
			one := *o
			one.out = json.NewEncoder(io.Discard)
			part := strings.SplitN(line, " ", 3)
			one.addr = part[0]
			if errs[i] = one.as(part[1], part[2]); errs[i] == nil {
				errs[i] = one.phase(phase)
			}
		})
	}
	g.Wait()
	return errors.Join(append(errs, o.report(phase, begin))...)
}

func (o *options) phase(name string) error {
	pub, private, err := newKey()
	if err != nil {
		return err
	}
	switch name {
	case "create":
		return o.once("create", pub, "create.sh", 5)
	case "delete":
		return o.once("delete", pub, "delete.sh", 4)
	case "grant":
		return o.grant(pub, private)
	}
	return fmt.Errorf("want create, delete or grant, not %q", name)
}

func newKey() (line string, s ssh.Signer, err error) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return "", nil, err
	}
	if s, err = ssh.NewSignerFromSigner(private); err != nil {
		return "", nil, err
	}
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(s.PublicKey()))), s, nil
}

// once is one connection with one exec.
func (o *options) once(phase, pub, script string, steps int) error {
	begin := time.Now()
	c, err := o.dial(o.login, o.admin)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := o.script(c, pub, script, steps); err != nil {
		return err
	}
	return o.report(phase, begin)
}

func (o *options) grant(pub string, private ssh.Signer) error {
	whole := time.Now()
	c, err := o.dial(o.login, o.admin)
	if err != nil {
		return err
	}
	before, err := o.surface(c, pub)
	if err == nil {
		err = o.script(c, pub, "create.sh", 5)
	}
	c.Close()
	if err != nil {
		return err
	}
	if err := o.report("create", whole); err != nil {
		return err
	}

	begin := time.Now()
	proof, err := o.dial(o.account, private)
	if err != nil {
		return fmt.Errorf("login with the new key: %w", err)
	}
	proof.Close()
	if err := o.report("login", begin); err != nil {
		return err
	}

	begin = time.Now()
	if c, err = o.dial(o.login, o.admin); err != nil {
		return err
	}
	defer c.Close()
	// Removal and proof in one program, as nothing has to be decided between them.
	text, err := o.read("delete.sh", "surface.sh")
	if err != nil {
		return err
	}
	out, err := o.exec(c, pub, text)
	if err != nil {
		return err
	}
	if err := allDone(out, 4); err != nil {
		return err
	}
	if after := objects(out); !slices.Equal(before, after) {
		return fmt.Errorf("before %q, after %q", before, after)
	}
	if err := o.report("delete", begin); err != nil {
		return err
	}
	return o.report("grant", whole)
}

func (o *options) report(phase string, begin time.Time) error {
	return o.out.Encode(map[string]any{"phase": phase, "ms": float64(time.Since(begin).Microseconds()) / 1000})
}

func (o *options) read(names ...string) (text string, err error) {
	for _, n := range names {
		b, err := os.ReadFile(filepath.Join(o.scripts, n))
		if err != nil {
			return "", err
		}
		text += string(b)
	}
	return text, nil
}

func (o *options) script(c *ssh.Client, pub, name string, steps int) error {
	text, err := o.read(name)
	if err != nil {
		return err
	}
	out, err := o.exec(c, pub, text)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return allDone(out, steps)
}

func (o *options) surface(c *ssh.Client, pub string) ([]string, error) {
	text, err := o.read("surface.sh")
	if err != nil {
		return nil, err
	}
	out, err := o.exec(c, pub, text)
	return objects(out), err
}

func allDone(out string, steps int) error {
	for n := range steps {
		if want := fmt.Sprintf("@ %d 0\n", n+1); !strings.Contains(out, want) {
			return fmt.Errorf("step %d did not succeed: %s", n+1, out)
		}
	}
	return nil
}

// objects are the lines of a surface but for the clock.
func objects(out string) (lines []string) {
	for l := range strings.Lines(out) {
		if !strings.HasPrefix(l, "@ ") && !strings.HasPrefix(l, "clock ") {
			lines = append(lines, strings.TrimSuffix(l, "\n"))
		}
	}
	slices.Sort(lines)
	return lines
}

// values are the assignments put before a script.
func (o *options) values(pub string) string {
	until := time.Now().UTC().Add(2 * time.Hour)
	var b strings.Builder
	for _, v := range [][2]string{
		{"ACCOUNT", o.account},
		{"UID_NO", strconv.Itoa(o.uid)},
		{"COMMENT", "g-floor until " + until.Format("20060102T150405") + "Z"},
		{"KEY", pub},
		{"PASSWORD", rand.Text()},
		{"LAST_DAY", until.AddDate(0, 0, 1).Format(time.DateOnly)},
		{"UNTIL", until.Format("20060102150405") + "Z"},
	} {
		fmt.Fprintf(&b, "%s='%s'\n", v[0], strings.ReplaceAll(v[1], "'", `'\''`))
	}
	return b.String()
}

func (o *options) dial(user string, key ssh.Signer) (*ssh.Client, error) {
	nc, err := net.DialTimeout("tcp", o.addr, 10*time.Second)
	if err != nil {
		return nil, err
	}
	raw, err := nc.(*net.TCPConn).SyscallConn()
	if err != nil {
		return nil, err
	}
	c, chans, reqs, err := ssh.NewClientConn(quick{nc, raw}, o.addr, &ssh.ClientConfig{
		User: user, Auth: []ssh.AuthMethod{ssh.PublicKeys(key)}, Timeout: 10 * time.Second,
		HostKeyCallback: ssh.FixedHostKey(o.hostKey), HostKeyAlgorithms: []string{o.hostKey.Type()},
	})
	if err != nil {
		nc.Close()
		return nil, err
	}
	return ssh.NewClient(c, chans, reqs), nil
}

// quick acknowledges at once what it has read: sshd waits for that before it sends
// its next small packet.
type quick struct {
	net.Conn
	raw syscall.RawConn
}

const tcpQuickAck = 12 // linux/tcp.h

func (q quick) Read(b []byte) (int, error) {
	n, err := q.Conn.Read(b)
	_ = q.raw.Control(func(fd uintptr) { _ = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, tcpQuickAck, 1) })
	return n, err
}

// exec sends request, script and end of input without waiting for an answer.
func (o *options) exec(c *ssh.Client, pub, script string) (string, error) {
	ch, reqs, err := c.OpenChannel("session", nil)
	if err != nil {
		return "", err
	}
	defer ch.Close()
	status := make(chan int, 1)
	go func() {
		rc := -1
		for r := range reqs {
			if r.Type == "exit-status" && len(r.Payload) == 4 {
				rc = int(r.Payload[3])
			}
			if r.WantReply {
				_ = r.Reply(false, nil)
			}
		}
		status <- rc
	}()
	_, err = ch.SendRequest("exec", false, ssh.Marshal(struct{ Command string }{"sh -s"}))
	if err == nil {
		_, err = io.WriteString(ch, o.values(pub)+script)
	}
	if err == nil {
		err = ch.CloseWrite()
	}
	var out, errOut bytes.Buffer
	told := make(chan error, 1)
	go func() { _, err := io.Copy(&errOut, ch.Stderr()); told <- err }()
	_, readErr := io.Copy(&out, ch)
	if err := errors.Join(err, readErr, <-told); err != nil {
		return "", err
	}
	if rc := <-status; rc != 0 {
		return "", fmt.Errorf("exit %d: %s%s", rc, out.String(), errOut.String())
	}
	return out.String(), nil
}
