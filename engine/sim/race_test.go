//go:build race

package sim_test

// The race detector makes histories six times as slow. make test runs more of them
// without it.
const (
	histories = 2000
	onDisk    = 60
	overlaps  = 200
	scans     = 50
)
