package token

import "runner/engine/transport/winrm/krb/etype"

// Fix makes c use one confounder, so that what it seals can be compared.
func (c *Channel) Fix(confounder [etype.Confounder]byte) {
	c.confounder = func() [etype.Confounder]byte { return confounder }
}
