//go:build race

package store_test

import "time"

// manyGrants is small here: under the race detector SQLite, which is Go, is
// some fifty times as slow.
const manyGrants = 2_500

// maxReady is how long Due may take with them.
const maxReady = 2 * time.Second
