//go:build !race

package sim_test

const (
	raced    = false
	overlaps = 1000
	scans    = 150
)
