package ssh

import (
	"crypto"
	"encoding/pem"
	"fmt"
	"strings"

	gossh "golang.org/x/crypto/ssh"
)

// MarshalKey returns a private key as a block in OpenSSH's format and its
// public key as a line of authorized_keys, both with the comment.
func MarshalKey(key crypto.PrivateKey, comment string) (*pem.Block, string, error) {
	block, err := gossh.MarshalPrivateKey(key, comment)
	if err != nil {
		return nil, "", fmt.Errorf("ssh: private key: %w", err)
	}
	signer, err := gossh.NewSignerFromKey(key)
	if err != nil {
		return nil, "", fmt.Errorf("ssh: public key: %w", err)
	}
	line := strings.TrimSpace(string(gossh.MarshalAuthorizedKey(signer.PublicKey())))
	return block, line + " " + comment, nil
}
