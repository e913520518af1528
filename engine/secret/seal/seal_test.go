package seal

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

const canary = "canary-plaintext"

func open(t *testing.T, path string) *Key {
	t.Helper()
	k, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestSealedSecretOpensOnlyInItsRow(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "key")
	box, err := open(t, path).Seal([]byte(canary), "g-1")
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(box, []byte(canary)) || len(box) != len(canary)+Overhead {
		t.Fatalf("box %q", box)
	}
	again := open(t, path) // another process
	if plain, err := again.Unseal(box, "g-1"); err != nil || string(plain) != canary {
		t.Fatalf("got %q, %v", plain, err)
	}
	if _, err := again.Unseal(box, "g-2"); !errors.Is(err, ErrBroken) {
		t.Errorf("in another row: %v", err)
	}
	if _, err := again.Seal([]byte(canary), ""); err == nil || strings.Contains(err.Error(), canary) {
		t.Errorf("without a row: %v", err)
	}
	other := open(t, filepath.Join(t.TempDir(), "key"))
	if _, err := other.Unseal(box, "g-1"); !errors.Is(err, ErrUnknownKey) {
		t.Errorf("under another key: %v", err)
	}
}

func TestEveryChangedBitIsNoticed(t *testing.T) {
	t.Parallel()
	k := open(t, filepath.Join(t.TempDir(), "key"))
	box, err := k.Seal([]byte(canary), "g-1")
	if err != nil {
		t.Fatal(err)
	}
	for i := range len(box) * 8 {
		bad := bytes.Clone(box)
		bad[i/8] ^= 1 << (i % 8)
		if plain, err := k.Unseal(bad, "g-1"); err == nil || plain != nil || strings.Contains(err.Error(), canary) {
			t.Fatalf("bit %d: %q, %v", i, plain, err)
		}
	}
	for n := range len(box) {
		if plain, err := k.Unseal(box[:n], "g-1"); err == nil || plain != nil {
			t.Fatalf("cut to %d: %q, %v", n, plain, err)
		}
	}
}

func TestNoTwoBoxesAreEqual(t *testing.T) {
	t.Parallel()
	k := open(t, filepath.Join(t.TempDir(), "key"))
	seen := map[string]bool{}
	for range 1000 {
		box, err := k.Seal([]byte(canary), "g-1")
		if err != nil || seen[string(box[header:header+nonceLen])] {
			t.Fatalf("nonce repeats, or %v", err)
		}
		seen[string(box[header:header+nonceLen])] = true
	}
}

func TestKeyInFrontSealsAndOlderKeysOpen(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "key")
	old := open(t, path)
	box, err := old.Seal([]byte(canary), "g-1")
	if err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	line := keyPrefix + base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{7}, keySize)) + "\n"
	if err := os.WriteFile(path, append([]byte(line), before...), 0o600); err != nil {
		t.Fatal(err)
	}
	both := open(t, path)
	if plain, err := both.Unseal(box, "g-1"); err != nil || string(plain) != canary {
		t.Errorf("old box: %q, %v", plain, err)
	}
	fresh, err := both.Seal([]byte(canary), "g-1")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := old.Unseal(fresh, "g-1"); !errors.Is(err, ErrUnknownKey) {
		t.Errorf("the old key still seals: %v", err)
	}
}

func TestProcessesThatCreateTheKeyAtOnceShareIt(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	keys := make([]*Key, 16)
	var wg sync.WaitGroup
	for i := range keys {
		wg.Go(func() {
			k, err := Open(filepath.Join(dir, "key"))
			if err != nil {
				t.Error(err)
				return
			}
			keys[i] = k
		})
	}
	wg.Wait()
	if t.Failed() {
		return
	}
	box, err := keys[0].Seal([]byte(canary), "g-1")
	if err != nil {
		t.Fatal(err)
	}
	for i, k := range keys {
		if _, err := k.Unseal(box, "g-1"); err != nil {
			t.Errorf("process %d has another key: %v", i, err)
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Errorf("left in the directory: %v, %v", entries, err)
	}
	info, err := os.Stat(filepath.Join(dir, "key"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

func TestKeyFilesThatCannotBeTrustedAreRefused(t *testing.T) {
	t.Parallel()
	good := keyPrefix + base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{7}, keySize)) + "\n"
	write := func(text string, mode os.FileMode) func(t *testing.T, path string) {
		return func(t *testing.T, path string) {
			t.Helper()
			if err := os.WriteFile(path, []byte(text), mode); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(path, mode); err != nil {
				t.Fatal(err)
			}
		}
	}
	tests := map[string]struct {
		make func(t *testing.T, path string)
		want string
	}{
		"readable by the group": {write(good, 0o640), "chmod 600"},
		"readable by all":       {write(good, 0o604), "chmod 600"},
		"empty":                 {write("", 0o600), "holds no key"},
		"not a key":             {write("Tr0ub4dor&3\n", 0o600), "line 1"},
		"short key":             {write(keyPrefix+"QUJD\n", 0o600), "line 1"},
		"directory": {func(t *testing.T, path string) {
			t.Helper()
			if err := os.Mkdir(path, 0o700); err != nil {
				t.Fatal(err)
			}
		}, "not a regular file"},
		"symbolic link": {func(t *testing.T, path string) {
			t.Helper()
			write(good, 0o600)(t, path+".real")
			if err := os.Symlink(path+".real", path); err != nil {
				t.Fatal(err)
			}
		}, "symbolic link"},
	}
	if os.Geteuid() == 0 {
		tests["somebody else's"] = struct {
			make func(t *testing.T, path string)
			want string
		}{func(t *testing.T, path string) {
			t.Helper()
			write(good, 0o600)(t, path)
			if err := os.Chown(path, 12345, 0); err != nil {
				t.Fatal(err)
			}
		}, "belongs to uid 12345"}
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "key")
			tt.make(t, path)
			k, err := Open(path)
			if k != nil || err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("got %v, want an error with %q", err, tt.want)
			}
			if strings.Contains(err.Error(), "Tr0ub4dor") || strings.Contains(err.Error(), "BwcHBw") {
				t.Errorf("the error shows what the file holds: %v", err)
			}
		})
	}
	if _, err := Open(filepath.Join(t.TempDir(), "missing", "key")); err == nil {
		t.Error("a key without a directory was created")
	}
}

func TestKeyPrintsNothingOfItself(t *testing.T) {
	t.Parallel()
	k := open(t, filepath.Join(t.TempDir(), "key"))
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x"} {
		if got := fmt.Sprintf(verb, k); got != "seal.Key" {
			t.Errorf("%s: %s", verb, got)
		}
	}
}
