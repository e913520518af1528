//go:build race

package store_test

import "time"

// manyGrants is small here: under the race detector SQLite, which is Go, is
// some fifty times as slow.
const manyGrants = 2_500

// maxDue is how long Due may take with them.
const maxDue = 2 * time.Second
