//go:build race

package sim_test

// raced: the race detector makes histories ten times as slow.
const raced = true
