//go:build !race

package sim_test

const (
	histories = 600
	overlaps  = 1000
	scans     = 150
)
