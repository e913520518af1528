package wsman

import (
	"fmt"

	"runner/engine/transport"
	"runner/engine/transport/winrm/runspace"
	"runner/engine/transport/winrm/wsman/envelope"
)

// fault says what a fault of the host means. Codes first, then the word of WS-Man:
// most codes were never seen on Windows by us. The texts are of any language.
func (d *Device) fault(phase transport.Phase, f *envelope.FaultError) error {
	said := &envelope.FaultError{Code: f.Code, Inner: f.Inner, Subcode: f.Subcode, Reason: clean(f.Reason, 400), Message: clean(f.Message, 400)}
	e := d.lost(phase, "exec.fault", said)
	if phase == transport.PhaseShell {
		e.Code = "shell.fault"
	}
	who := d.cfg.User
	if who == "" {
		who = "the login account"
	}
	switch {
	case f.Has(envelope.CodeNoShell) || f.Subcode == "InvalidSelectors":
		e.Code, e.Err = "shell.gone", fmt.Errorf("%w: %w", runspace.ErrGone, said)
		e.Hint = "it was idle for too long, or the service was restarted"
	case f.Has(envelope.CodeQuota) || f.Subcode == "QuotaLimit":
		e.Code, e.Hint = "shell.quota", "too many shells or commands of "+who+" on "+d.name()+": those of lost sessions end by themselves after their IdleTimeout; MaxShellsPerUser and MaxConcurrentUsers in winrm/config/winrs and in the WSMan: plugin set the limits"
	case f.Has(envelope.CodeAccessDenied) || f.Subcode == "AccessDenied":
		e.Code, e.Hint = "shell.access_denied", fmt.Sprintf("the login of %s worked, but it is neither in Administrators nor in Remote Management Users, or the endpoint %s does not let it in; the cmd shell needs an administrator", who, d.cfg.Configuration)
	case f.Subcode == "EncodingLimit":
		e.Code, e.Hint = "exec.envelope", "the host takes smaller envelopes than runner sent: set max_envelope in the inventory, or raise MaxEnvelopeSizekb on the host"
	case f.Subcode == "InvalidResourceURI" || f.Subcode == "DestinationUnreachable":
		e.Code, e.Hint = "shell.no_endpoint", fmt.Sprintf("there is no session configuration %q on the host: Get-PSSessionConfiguration lists them, Enable-PSRemoting makes the usual one", d.cfg.Configuration)
	case f.TimedOut():
		e.Code, e.Hint = "exec.operation_timeout", "the host is overloaded, or set a longer operation time-out in the inventory"
	case f.Code == 2147942402:
		e.Code, e.Hint = "exec.not_found", "the host does not have the program; on endpoints without a cmd shell use shell: psrp"
	case f.Code == 2147942606:
		e.Code = "exec.too_long"
	}
	return e
}
