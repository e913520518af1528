//go:build !race

package store_test

import "time"

// manyGrants makes 100,000 jobs.
const manyGrants = 50_000

// maxReady is how long Due may take with them.
const maxReady = 50 * time.Millisecond
