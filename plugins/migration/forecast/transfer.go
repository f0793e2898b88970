package forecast

// Floor is the share of a resource that a transfer gets however busy it is.
const Floor = .03

// Free is what a load leaves.
func Free(load float64) float64 { return max(Floor, 1-load) }

// Duration is how many slots a transfer takes that needs size slots of the whole resource, if it starts at slot from of loads.
// What comes after their end is like their last. It takes at most limit slots.
func Duration(loads []float64, from int, size, limit float64) float64 {
	n := 0.0
	for k := from; ; k++ {
		free := Free(loads[min(k, len(loads)-1)])
		if size <= free {
			return min(limit, n+size/free)
		}
		if n++; n >= limit {
			return limit
		}
		size -= free
	}
}

// Expected is what Duration is expected to be.
func (b *Band) Expected(from int, size, limit float64) float64 {
	return Duration(b.Mean, from, size, limit)
}
