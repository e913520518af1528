package etype_test

import (
	"encoding/hex"
	"errors"
	"testing"

	"runner/engine/transport/winrm/krb/etype"
)

func TestKeysOfPasswordsAreThoseOfTheStandards(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		id                   int32
		password, salt, want string
	}{
		// RFC 8009 appendix A, the iterations of which are the default
		{etype.AES128SHA256, "password", "\x10\xdf\x9d\xd7\x83\xe5\xbc\x8a\xce\xa1\x73\x0e\x74\x35\x5f\x61ATHENA.MIT.EDUraeburn", "089bca48b105ea6ea77ca5d2f39dc5e7"},
		{etype.AES256SHA384, "password", "\x10\xdf\x9d\xd7\x83\xe5\xbc\x8a\xce\xa1\x73\x0e\x74\x35\x5f\x61ATHENA.MIT.EDUraeburn", "45bd806dbf6a833a9cffc1c94589a222367a79bc21c413718906e9f578a78467"},
	} {
		k, err := etype.FromPassword(c.id, c.password, c.salt, nil)
		if err != nil || hex.EncodeToString(k.KeyValue) != c.want {
			t.Errorf("%s: got %x, %v; want %s", etype.Name(c.id), k.KeyValue, err, c.want)
		}
	}
}

func TestAKDCCannotMakePasswordsCheapOrUsBusy(t *testing.T) {
	t.Parallel()
	for _, id := range etype.All() {
		if _, err := etype.FromPassword(id, "p", "s", []byte{0, 0, 0, 1}); !errors.Is(err, etype.ErrWeak) {
			t.Errorf("%s took one iteration: %v", etype.Name(id), err)
		}
		for _, params := range [][]byte{{0xff, 0xff, 0xff, 0xff}, {1}, make([]byte, 400)} {
			if _, err := etype.FromPassword(id, "p", "s", params); err == nil {
				t.Errorf("%s took parameters %x", etype.Name(id), params[:1])
			}
		}
	}
}

func TestWhatIsEncryptedIsDecryptedOnceUnchanged(t *testing.T) {
	t.Parallel()
	for _, id := range etype.All() {
		k := etype.New(id)
		for n := range 70 {
			plain := make([]byte, n)
			ct, err := etype.Encrypt(k, 7, plain)
			if err != nil {
				t.Fatal(err)
			}
			if len(ct) != n+etype.Confounder+etype.MAC(id) {
				t.Fatalf("%s: %d bytes became %d", etype.Name(id), n, len(ct))
			}
			got, err := etype.Decrypt(k, 7, ct)
			if err != nil || len(got) != n {
				t.Fatalf("%s: %d bytes came back as %d: %v", etype.Name(id), n, len(got), err)
			}
			if _, err := etype.Decrypt(k, 8, ct); !errors.Is(err, etype.ErrIntegrity) {
				t.Fatalf("%s: another usage: %v", etype.Name(id), err)
			}
			for cut := range ct {
				if _, err := etype.Decrypt(k, 7, ct[:cut]); err == nil {
					t.Fatalf("%s: %d of %d bytes were taken", etype.Name(id), cut, len(ct))
				}
			}
		}
	}
}

func TestOnlyAESIsTaken(t *testing.T) {
	t.Parallel()
	for _, id := range []int32{0, 1, 3, 16, 23, 24, 99, -128} {
		k := etype.Key{KeyType: id, KeyValue: make([]byte, 16)}
		if _, err := etype.Encrypt(k, 1, nil); err == nil {
			t.Errorf("%s encrypts", etype.Name(id))
		}
		if _, err := etype.Decrypt(k, 1, make([]byte, 64)); err == nil {
			t.Errorf("%s decrypts", etype.Name(id))
		}
		if _, err := etype.FromPassword(id, "p", "s", nil); err == nil {
			t.Errorf("%s takes passwords", etype.Name(id))
		}
	}
}
