package strict

import "strings"

// maxSuggest bounds the quadratic work for a word that comes from outside.
const maxSuggest = 64

// Suggest returns the candidate that word most likely misspells, or "".
func Suggest(word string, candidates []string) string {
	if len(word) < 2 || len(word) > maxSuggest {
		return ""
	}
	word = strings.ToLower(word)
	// One typing slip for a short word, a third of its letters for a long one.
	best, limit := "", max(1, len(word)/3)+1
	for _, c := range candidates {
		if len(c) > maxSuggest {
			continue
		}
		if d := distance(word, strings.ToLower(c)); d < limit {
			best, limit = c, d
		}
	}
	return best
}

// distance counts insertions, deletions, substitutions and swaps of neighbours (optimal
// string alignment), because swapped letters are the commonest slip of all.
func distance(a, b string) int {
	before, prev, cur := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range prev {
		prev[j] = j
	}
	for i := 1; i <= len(a); i++ {
		cur[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			cur[j] = min(prev[j]+1, cur[j-1]+1, prev[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				cur[j] = min(cur[j], before[j-2]+1)
			}
		}
		before, prev, cur = prev, cur, before
	}
	return prev[len(b)]
}
