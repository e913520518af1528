// Package ssh is the transport over SSH: it dials (jump hosts, host keys, one
// authentication attempt per cause), keeps connections for a while, renders
// batches as POSIX sh programs for a resident coordinator shell, and reads
// framed events back. It owns the wire and the remote shell's environment; it
// refuses to know modules, templates or grants, to copy files, and to accept a
// host key that nobody vouched for.
package ssh
