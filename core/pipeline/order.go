package pipeline

// order lets results out in the order in which their items came in. Without keep it lets them out at once.
type order struct {
	keep       bool
	next, last uint64
	done       map[uint64]func()
}

// enter gives an item its place.
func (o *order) enter() uint64 {
	o.last++
	return o.last
}

// leave lets out what an item became, and all that waited for it.
func (o *order) leave(n uint64, out func()) {
	if !o.keep {
		out()
		return
	}
	if o.done == nil {
		o.done = make(map[uint64]func())
	}
	o.done[n] = out
	for {
		out, ok := o.done[o.next+1]
		if !ok {
			return
		}
		o.next++
		delete(o.done, o.next)
		out()
	}
}
