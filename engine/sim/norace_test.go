//go:build !race

package sim_test

const (
	histories = 600
	onDisk    = 200
	overlaps  = 1000
	scans     = 150
)
