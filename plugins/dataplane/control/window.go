package control

// windowSize is how far behind the newest a datagram may arrive.
const windowSize = 1024

// window remembers which sequence numbers have been seen. The zero value has seen none; numbers begin at 1.
type window struct {
	newest uint64
	seen   [windowSize / 64]uint64 // bit n%windowSize, valid for newest-windowSize < n <= newest
}

// fresh says whether a datagram of this number would be accepted.
func (w *window) fresh(n uint64) bool {
	switch {
	case n == 0:
		return false
	case n > w.newest:
		return true
	case w.newest-n >= windowSize:
		return false
	}
	return w.seen[n%windowSize/64]&(1<<(n%64)) == 0
}

// accept marks the number, which must be fresh.
func (w *window) accept(n uint64) {
	if n > w.newest {
		if n-w.newest >= windowSize {
			w.seen = [windowSize / 64]uint64{}
		} else {
			for i := w.newest + 1; i < n; i++ {
				w.seen[i%windowSize/64] &^= 1 << (i % 64)
			}
		}
		w.newest = n
	}
	w.seen[n%windowSize/64] |= 1 << (n % 64)
}
