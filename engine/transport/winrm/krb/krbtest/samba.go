package krbtest

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

//go:embed domain.py
var domain string

// Samba is a domain controller of Samba, of which the KDC runs only. It matches
// service principals the way Active Directory does.
type Samba struct {
	Realm string
	Addr  string // 127.0.0.1:port, TCP and UDP
	Dir   string // of its files
}

// Account is a user of a domain, or a computer if it has service principals. After
// three wrong passwords it is locked.
type Account struct {
	Name     string   `json:"name"`
	Password string   `json:"password"`
	SPNs     []string `json:"spns"`
	Control  int      `json:"control"` // bits of userAccountControl
	Etypes   int      `json:"etypes"`  // msDS-SupportedEncryptionTypes: 24 is AES, 4 RC4
	Change   bool     `json:"change"`  // the password has to be changed first
	Keytab   string   `json:"keytab"`  // file to write its keys to, in Dir
}

// StartSamba makes a domain and starts its KDC, which ends with the test. That takes
// some seconds.
func StartSamba(tb testing.TB, realm string, accounts ...Account) *Samba {
	tb.Helper()
	s := &Samba{Realm: realm, Dir: tb.TempDir()}
	tb.Cleanup(func() {
		if b, err := os.ReadFile(filepath.Join(s.Dir, "kdc.log")); tb.Failed() && err == nil {
			tb.Logf("log of the KDC of %s:\n%s", realm, b)
		}
	})
	list, err := json.Marshal(accounts) //nolint:gosec // passwords of a domain that lives as long as the test
	if err != nil {
		tb.Fatal(err)
	}
	if _, err := s.python(tb.Context(), string(list), "provision", s.Dir, realm); err != nil {
		tb.Fatal(err)
	}
	s.Addr = anywhere(tb, func(addr string) error { return s.start(tb, addr) })
	return s
}

func (s *Samba) start(tb testing.TB, addr string) error {
	tb.Helper()
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return err
	}
	return serve(tb, addr, []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C"}, "/usr/sbin/samba",
		"-F", "--no-process-group", "-M", "single", "-s", filepath.Join(s.Dir, "dc/etc/smb.conf"), "--option=krb5 port="+port)
}

// Attempts is how many wrong passwords the domain counts for a user.
func (s *Samba) Attempts(tb testing.TB, user string) int {
	tb.Helper()
	out, err := s.python(tb.Context(), "", "attempts", s.Dir, user)
	if err != nil {
		tb.Fatal(err)
	}
	n, err := strconv.Atoi(strings.TrimSpace(out))
	if err != nil {
		tb.Fatal(err)
	}
	return n
}

// File returns the contents of a file that an Account named.
func (s *Samba) File(tb testing.TB, name string) string {
	tb.Helper()
	b, err := os.ReadFile(filepath.Join(s.Dir, name))
	if err != nil {
		tb.Fatal(err)
	}
	return string(b)
}

// python runs domain.py with the interpreter that Debian's modules are for.
func (s *Samba) python(ctx context.Context, stdin string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "/usr/bin/python3", append([]string{"-c", domain}, args...)...)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=" + s.Dir, "LC_ALL=C.UTF-8"}
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.Output()
	if e, ok := errors.AsType[*exec.ExitError](err); ok {
		return "", fmt.Errorf("domain.py: %w: %s", err, e.Stderr)
	}
	return string(out), err
}
