package lang

import "slices"

// Nearest returns the one of names that was probably meant by name, or "". It
// allows a Levenshtein distance of 2, and of 1 where name has at most three
// runes. Of several equally near names it returns the first in sort order.
// A name that is in names is never its own suggestion.
func Nearest(name string, names []string) string {
	r := []rune(name)
	limit := 2
	if len(r) <= 3 {
		limit = 1
	}
	if len(r) == 0 || len(r) > 100 {
		return ""
	}
	best, bestDist := "", limit+1
	for _, c := range names {
		if c == name {
			continue
		}
		d := distance(r, []rune(c), limit)
		if d >= len(r) {
			continue // nothing of the name would be left
		}
		if d < bestDist || d == bestDist && best != "" && c < best {
			best, bestDist = c, d
		}
	}
	return best
}

// distance is the Levenshtein distance of a and b, or limit+1 when it is larger.
func distance(a, b []rune, limit int) int {
	if d := len(a) - len(b); d > limit || -d > limit {
		return limit + 1
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i, ra := range a {
		prev := row[0]
		row[0] = i + 1
		for j, rb := range b {
			cost := prev
			if ra != rb {
				cost = 1 + min(prev, row[j], row[j+1])
			}
			prev, row[j+1] = row[j+1], cost
		}
		if slices.Min(row) > limit {
			return limit + 1
		}
	}
	return min(row[len(b)], limit+1)
}
