package krb_test

import (
	"testing"

	"runner/engine/secret"
	"runner/engine/transport/winrm/krb"
)

func TestOneSecretIsOneClient(t *testing.T) {
	t.Parallel()
	var cache krb.Cache
	get := func(user, password, route string) *krb.Client {
		c, err := cache.Client(krb.Config{Realm: realm, User: user, Password: secret.New(password), Route: route, Conf: &krb.Conf{Realms: map[string][]string{"A": {"b"}}}})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	first := get("ops", "a", "")
	if get("ops", "a", "") != first {
		t.Error("the same is another one")
	}
	for _, other := range []*krb.Client{get("ops", "b", ""), get("op", "sa", ""), get("ops", "a", "jump1")} {
		if other == first {
			t.Error("another one is the same")
		}
	}
	for i := range 300 {
		get("user", string(rune('a'+i)), "")
	}
	if get("ops", "a", "") == first {
		t.Error("it grows for ever")
	}
	last := get("ops", "b", "")
	cache.Close()
	if err := last.Login(t.Context()); code(err) != "auth.cancelled" {
		t.Errorf("what was closed goes on: %v", err)
	}
}

func TestAClientDialsByTheDialThatCameLast(t *testing.T) {
	t.Parallel()
	var cache krb.Cache
	defer cache.Close()
	get := func(n network) *krb.Client {
		c, err := cache.Client(krb.Config{Realm: realm, User: "ops", Password: secret.New(password), KDCs: []string{"dc1"}, Dial: n.dial, Route: "jump1"})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	get(network{})
	if err := get(network{"dc1:88": newFake(realm)}).Login(t.Context()); err != nil {
		t.Error(err)
	}
}
