//go:build race

package sim_test

// The race detector makes histories ten times as slow. make test runs more of them
// without it.
const (
	histories = 300
	onDisk    = 30
	overlaps  = 200
	scans     = 50
)
