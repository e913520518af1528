package krb

import (
	"errors"
	"fmt"

	"github.com/jcmturner/gofork/encoding/asn1" // the one that gokrb5's types are written for
)

// maxAnswer bounds what is read from a KDC: a ticket whose owner is in thousands of
// groups has a tenth of it.
const maxAnswer = 1 << 20

var errForm = errors.New("it is not in the form of the standard")

// unmarshal reads v, which is all that b holds, and survives what the decoder does not.
func unmarshal(b []byte, v any) (err error) {
	defer survive(&err)
	rest, err := asn1.Unmarshal(b, v)
	if err != nil || len(rest) > 0 {
		return errForm
	}
	return nil
}

// survive turns a panic over hostile input into an error.
func survive(err *error) {
	if r := recover(); r != nil {
		*err = fmt.Errorf("%w: %v", errForm, r)
	}
}
