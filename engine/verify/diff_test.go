package verify

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// lookBelow looks at a folder as if it were a machine's root.
func lookBelow(t *testing.T, root string, was *look) *look {
	t.Helper()
	l := newLook()
	for _, dir := range append([]string{"/"}, local...) {
		if err := os.MkdirAll(root+dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.read(root, was); err != nil {
		t.Fatal(err)
	}
	return l
}

func TestWhatChangedIsNamed(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	put := func(name, text string) {
		t.Helper()
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	do := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	put("etc/group", "adm:x:4:ann,bob\nops:x:1001:\n")
	put("etc/shadow", "ann:$6$hash:1::::::\n")
	put("etc/passwd-", "old")
	put("etc/swapped", "a\nb\n")
	put("etc/cut", "a\nb\n")
	put("etc/binary", "a\x00b")
	put("etc/mode", "x")
	put("var/log/auth.log", "x")
	put("usr/lib/x", "x")
	put("opt/gone/below", "x")
	put("opt/became", "x")
	put("srv/big", strings.Repeat("x", maxText+1))
	do(os.Symlink("a", filepath.Join(root, "etc/link")))
	before := lookBelow(t, root, nil)
	if left := diff(before, lookBelow(t, root, before)); len(left) > 0 {
		t.Errorf("nothing happened: %v", left)
	}
	put("etc/group", "adm:x:4:ann,jit-1\nops:x:1001:\n")
	put("etc/shadow", "ann:$6$hash:1::::::\njit-1:$6$secret:1::::::\n")
	put("etc/passwd-", "new")
	put("etc/swapped", "b\na\n")
	put("etc/cut", "a\n")
	put("etc/binary", "a\x00c")
	do(os.Chmod(filepath.Join(root, "etc/mode"), 0o4755|os.ModeSetuid))
	put("var/log/auth.log", "y")
	put("usr/lib/x", "y")
	put("usr/local/bin/tool", "x")
	put("new/with/much/in/it", "x")
	do(os.RemoveAll(filepath.Join(root, "opt/gone")))
	do(os.Remove(filepath.Join(root, "opt/became")))
	do(os.Mkdir(filepath.Join(root, "opt/became"), 0o700))
	put("srv/big", strings.Repeat("y", maxText+1))
	do(os.Remove(filepath.Join(root, "etc/link")))
	do(os.Symlink("b", filepath.Join(root, "etc/link")))

	var got []string
	for _, l := range diff(before, lookBelow(t, root, before)) {
		got = append(got, l.Change+" "+l.String())
	}
	me := owner(number(os.Getuid()))
	want := []string{
		"missing folder /opt/gone: of " + me + ", mode 0700",
		"changed file /etc/binary: has other contents",
		"missing line in /etc/cut: b",
		"missing line in /etc/group: group adm has member bob",
		"added line in /etc/group: group adm has member jit-1",
		"changed link /etc/link: led to a and leads to b",
		fmt.Sprintf("changed file /etc/mode: owner and mode were %[1]d:%[2]d 0600 and are %[1]d:%[2]d 4755", os.Getuid(), os.Getgid()),
		"added line in /etc/shadow: that of jit-1",
		"changed file /etc/swapped: its lines are in another order, or its last one ends otherwise",
		"added folder /new: of " + me + ", mode 0700",
		"missing file /opt/became: of " + me + ", mode 0600, 1 bytes",
		"added folder /opt/became: of " + me + ", mode 0700",
		fmt.Sprintf("changed file /srv/big: had %[1]d bytes and has %[1]d, or was written again", maxText+1),
		"added file /usr/local/bin/tool: of " + me + ", mode 0600, 1 bytes",
	}
	if g, w := strings.Join(got, "\n"), strings.Join(want, "\n"); g != w {
		t.Errorf("got\n%s\nwant\n%s", g, w)
	}
}

func TestMuchThatChangedInOneFileIsCounted(t *testing.T) {
	t.Parallel()
	left := lines("/etc/hosts", nil, []byte(strings.Repeat("x\n", 50)))
	if len(left) != maxLines+1 || left[maxLines].What != "and 30 more of its lines" {
		t.Errorf("%d: %v", len(left), left[len(left)-1])
	}
}
