package lang

import "strings"

// lookup follows keys joined by dots.
func lookup(n *Node, path string) *Node {
	for key := range strings.SplitSeq(path, ".") {
		n = n.Get(key)
	}
	return n
}
