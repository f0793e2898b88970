package share

// Credit is the memory of one pipeline at a moment, in bytes. A limit of 0 is none.
type Credit struct {
	Held, Most float64 // by the pipeline, and what it may hold by its own limit
	Grant      float64
	All, Total float64 // held by all pipelines, and what there is
}

// own is the part of its grant that a pipeline may take whatever the others hold. What was lent comes back only when the
// items that hold it are through, and before a store that does not answer they never are.
const own = 0.5

// Admits reports whether a source may put another item in. Within its own part of the grant it may; within the rest if
// there is memory free; beyond it, with borrow, if it is also nobody's turn who is within theirs, which [Dispatcher.Next]
// sees to. So all pipelines hold one and a half times the total at most, and an item each.
func (c Credit) Admits(borrow bool) bool {
	switch {
	case c.Held == 0:
		return true
	case c.Most > 0 && c.Held >= c.Most:
		return false
	case c.Total == 0, c.Held < own*c.Grant:
		return true
	case c.All >= c.Total:
		return false
	}
	return borrow || c.Held < c.Grant
}
