package gss_test

import (
	"errors"
	"testing"

	"runner/engine/transport"
	"runner/engine/transport/winrm/gss"
)

func TestAnErrorKeepsItsCause(t *testing.T) {
	t.Parallel()
	cause := errors.New("the password is wrong")
	err := error(&gss.Error{Phase: transport.PhaseAuth, Code: "auth.password", Err: cause})
	if !errors.Is(err, cause) || err.Error() != "auth: the password is wrong" {
		t.Errorf("got %q", err)
	}
}
