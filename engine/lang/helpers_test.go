package lang

import "strings"

// lookup follows keys joined by dots.
func lookup(n *Node, path string) *Node {
	for key := range strings.SplitSeq(path, ".") {
		n = n.Get(key)
	}
	return n
}

// index is the last place of sub in s after the first rune, or the first.
func index(s, sub string) int {
	return strings.Index(s, sub)
}
