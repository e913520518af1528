package secret

import "slices"

// denseCells bounds the memory of complete transition rows: 4 MiB.
const denseCells = 1 << 20

// automaton finds all patterns in one pass (Aho and Corasick, 1975). States
// are numbered breadth first, so that the children of a state are neighbours
// and a fall-back is always a smaller number. The first states, where a text
// without secrets spends its time, have complete rows; the many others only
// their children. It never changes once built.
type automaton struct {
	class [256]uint8 // bytes that no pattern holds share one class
	width int32
	dense []int32 // rows of the states below rows
	rows  int32

	first    []int32 // children of s are first[s] to first[s+1]
	label    []byte  // the byte that leads to a state
	fail     []int32 // the longest proper suffix that is a state
	depth    []int32
	match    []int32 // length of the longest pattern that ends here, 0: none
	hold     []int32 // how many last bytes may be the start of a longer match
	shortest []int32 // length of the shortest pattern that goes through here
}

// newAutomaton builds the automaton of patterns, none of them empty.
func newAutomaton(patterns []string) *automaton {
	patterns = slices.Compact(slices.Sorted(slices.Values(patterns)))
	a := &automaton{}
	a.classify(patterns)
	a.grow(patterns)
	a.link()
	a.fill()
	return a
}

func (a *automaton) classify(patterns []string) {
	var used [256]bool
	for _, p := range patterns {
		for i := range len(p) {
			used[p[i]] = true
		}
	}
	next := 0
	for b, u := range used {
		if u {
			a.class[b] = uint8(next)
			next++
		}
	}
	a.width = int32(next)
	if next == len(used) {
		return
	}
	for b, u := range used {
		if !u {
			a.class[b] = uint8(next)
		}
	}
	a.width++
}

// grow builds the tree. A state stands for the range of sorted patterns that
// share its path.
func (a *automaton) grow(patterns []string) {
	type node struct{ lo, hi int }
	nodes := []node{{0, len(patterns)}}
	a.label, a.depth, a.match = []byte{0}, []int32{0}, []int32{0}
	for s := 0; s < len(nodes); s++ {
		n, d := nodes[s], int(a.depth[s])
		a.first = append(a.first, int32(len(nodes))) //nolint:gosec // bounded by maxMasked
		short := len(patterns[n.lo])
		if short == d {
			a.match[s] = a.depth[s]
		}
		for i := n.lo; i < n.hi; {
			short = min(short, len(patterns[i]))
			if len(patterns[i]) == d {
				i++
				continue
			}
			b, j := patterns[i][d], i
			for ; j < n.hi && patterns[j][d] == b; j++ {
				short = min(short, len(patterns[j]))
			}
			nodes = append(nodes, node{i, j})
			a.label = append(a.label, b)
			a.depth = append(a.depth, a.depth[s]+1)
			a.match = append(a.match, 0)
			i = j
		}
		a.shortest = append(a.shortest, int32(short)) //nolint:gosec // bounded by maxMasked
	}
	a.first = append(a.first, int32(len(nodes))) //nolint:gosec // bounded by maxMasked
}

// link sets the fall-backs and what follows from them.
func (a *automaton) link() {
	a.fail = make([]int32, len(a.label))
	a.hold = make([]int32, len(a.label))
	for s := range int32(len(a.label)) { //nolint:gosec // bounded by maxMasked
		f := a.fail[s]
		if a.match[s] == 0 {
			a.match[s] = a.match[f]
		}
		a.hold[s] = a.depth[s]
		if a.first[s] == a.first[s+1] {
			a.hold[s] = a.hold[f]
		}
		for c := a.first[s]; s != 0 && c < a.first[s+1]; c++ {
			g := f
			for g != 0 && a.child(g, a.label[c]) == 0 {
				g = a.fail[g]
			}
			a.fail[c] = a.child(g, a.label[c])
		}
	}
}

// fill writes the complete rows.
func (a *automaton) fill() {
	a.rows = min(int32(len(a.label)), denseCells/a.width) //nolint:gosec // bounded by maxMasked
	a.dense = make([]int32, a.rows*a.width)
	for s := range a.rows {
		row := a.dense[s*a.width : (s+1)*a.width]
		if s != 0 {
			copy(row, a.dense[a.fail[s]*a.width:][:a.width])
		}
		for c := a.first[s]; c < a.first[s+1]; c++ {
			row[a.class[a.label[c]]] = c
		}
	}
}

// child returns the child of s under b, or 0.
func (a *automaton) child(s int32, b byte) int32 {
	lo, hi := a.first[s], a.first[s+1]
	if i, ok := slices.BinarySearch(a.label[lo:hi], b); ok {
		return lo + int32(i) //nolint:gosec // at most 255
	}
	return 0
}

// next returns the state after b.
func (a *automaton) next(s int32, b byte) int32 {
	for s >= a.rows {
		if c := a.child(s, b); c != 0 {
			return c
		}
		s = a.fail[s]
	}
	return a.dense[s*a.width+int32(a.class[b])]
}
