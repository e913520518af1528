// Package krb gets Kerberos tickets for one identity: by password, keytab or ticket
// cache, from the KDCs it is told, over trusts, within the caller's deadline. It owns
// the exchanges with KDCs (RFC 4120), the tickets (in memory only) and how clocks
// differ. It refuses to guess a password twice, to weaken encryption, and to use what
// a KDC says before it has proven that it knows the key.
package krb
