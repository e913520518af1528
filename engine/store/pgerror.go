package store

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"runner/engine/grant"
)

// SQLSTATE codes (postgresql.org/docs/current/errcodes-appendix.html) that mean
// something here.
const (
	stateUnique     = "23505"
	stateForeignKey = "23503"
	stateDiskFull   = "53100"
	stateReadOnly   = "25006"
	stateForbidden  = "42501"
	stateTimeout    = "57014"
)

// errStandby says that the server only follows another one.
var errStandby = errors.New("it is a standby")

// state returns the SQLSTATE of an error of the server, or "".
func state(err error) string {
	if e, ok := errors.AsType[*pgconn.PgError](err); ok {
		return e.Code
	}
	return ""
}

// isUnique reports whether a unique index, not a primary key, refused a row.
func isUnique(err error) bool { return extended(err) == codeUnique || state(err) == stateUnique }

// isForeignKey reports whether a row names another that does not exist.
func isForeignKey(err error) bool {
	return extended(err) == codeForeignKey || state(err) == stateForeignKey
}

// isAway reports whether err says that the server does not answer, now: it is
// stopped, starts, or the way to it is cut.
func isAway(err error) bool {
	if err == nil || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return false
	}
	s := state(err)
	switch {
	case strings.HasPrefix(s, "08"), s == "57P01", s == "57P02", s == "57P03", s == "57P05", s == "25P03", s == "53300":
		return true
	case s != "":
		return false
	}
	if _, is := errors.AsType[net.Error](err); is {
		return true
	}
	return errors.Is(err, driver.ErrBadConn) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed)
}

// explainState returns what an error of the server means for the one who reads it.
func (f file) explainState(err error) error {
	switch s := state(err); {
	case s == stateDiskFull:
		return fmt.Errorf("%w: nothing was written; make room on the disk of the %s", grant.ErrDiskFull, f.path)
	case s == stateReadOnly, errors.Is(err, errStandby):
		return fmt.Errorf("the %s is read-only, as a standby is: name the primary, or all hosts (host1,host2): %w", f.path, err)
	case s == stateForbidden:
		return fmt.Errorf("the %s does not let this user do that; the first one to open it needs CREATE on the database: %w", f.path, err)
	case isAway(err):
		return fmt.Errorf("the %s does not answer: %w", f.path, err)
	}
	return err
}
