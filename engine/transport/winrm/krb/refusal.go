package krb

import (
	"errors"
	"fmt"
	"strings"

	"github.com/jcmturner/gokrb5/v8/iana/errorcode"

	"runner/engine/transport"
)

// explain says what a KDC of realm meant when user asked for what: to log in, or for a
// service principal.
func explain(a *PeerError, realm, user, what string) *Error {
	e := &Error{Phase: transport.PhaseAuth, Code: "auth.policy"}
	meaning := "the KDC of " + realm + " refuses" // in a person's words, before the standard's
	switch a.Number {
	case errorcode.KDC_ERR_PREAUTH_FAILED, errorcode.KRB_AP_ERR_BAD_INTEGRITY:
		meaning = "the password or key is wrong"
		e.Code, e.Hint = "auth.password", "check the secret of "+user+"; it is not tried again by itself, so that the account is not locked"
	case errorcode.KDC_ERR_CLIENT_REVOKED, errorcode.KDC_ERR_NAME_EXP, errorcode.KDC_ERR_CLIENT_NOTYET:
		meaning = "the account is locked, disabled, expired or not valid yet"
		e.Code, e.Hint = "auth.locked", user+" is locked, disabled, expired or may not log in now: look at the account in the directory"
	case errorcode.KDC_ERR_KEY_EXPIRED:
		meaning = "the password has expired"
		e.Code, e.Hint = "auth.password_expired", "change the password of "+user+" first"
	case errorcode.KDC_ERR_C_PRINCIPAL_UNKNOWN:
		meaning = realm + " knows no such account"
		e.Code, e.Hint = "auth.user_unknown", "write the account's sAMAccountName, or its UPN; the realm asked was "+realm
		if !strings.Contains(realm, ".") {
			e.Hint += ", and a domain is best written as DNS names it (CORP.EXAMPLE)"
		}
	case errorcode.KDC_ERR_S_PRINCIPAL_UNKNOWN, errorcode.KDC_ERR_MUST_USE_USER2USER:
		meaning = realm + " knows no such service principal"
		e.Code, e.Hint = "auth.spn_unknown", "use the host's full DNS name, not an address or an alias; `setspn -Q "+what+"` shows who has the name"
	case errorcode.KDC_ERR_ETYPE_NOSUPP, errorcode.KDC_ERR_SUMTYPE_NOSUPP, errorcode.KDC_ERR_NULL_KEY:
		meaning = "there is no encryption type that both sides allow"
		e.Code, e.Hint = "auth.etype", hintAES
	case errorcode.KDC_ERR_SVC_UNAVAILABLE:
		e.Phase, e.Code, e.Hint = transport.PhaseDial, "kdc.unreachable", "the domain controller is starting, or out of service"
	case errorcode.KRB_ERR_RESPONSE_TOO_BIG:
		e.Phase, e.Code, e.Hint = transport.PhaseDial, "kdc.unreachable", "the answer needs TCP: open TCP port 88 to the domain controllers"
	case errorcode.KRB_AP_ERR_SKEW, errorcode.KRB_AP_ERR_TKT_NYV, errorcode.KDC_ERR_NEVER_VALID:
		meaning = "the clocks differ too much"
		e.Code, e.Hint = "auth.clock", "set the clocks by NTP"
	case errorcode.KRB_AP_ERR_TKT_EXPIRED:
		meaning = "the ticket has expired"
		e.Code, e.Hint = "auth.ticket_expired", "get a new ticket"
	case errorcode.KDC_ERR_WRONG_REALM, errorcode.KDC_ERR_PATH_NOT_ACCEPTED, errorcode.KRB_AP_PATH_NOT_ACCEPTED:
		meaning = "there is no way to it over trusts"
		e.Code, e.Hint = "auth.realm", "check the domain of the credential, and the trusts between the domains"
	}
	e.Err = fmt.Errorf("%s: %s: %w", what, meaning, a)
	return e
}

const hintAES = "the account has no AES key: set msDS-SupportedEncryptionTypes to 24 (AES) and change its password; RC4 and DES are refused"

// Cause returns the PeerError that err comes from, if there is one.
func Cause(err error) (*PeerError, bool) { return errors.AsType[*PeerError](err) }
