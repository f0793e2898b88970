package pipeline

// credit is the memory that an item took when it came in, shared by all that it becomes. All calls are made under the
// scheduler's lock.
type credit struct {
	pipeline *Pipeline
	bytes    int64
	holders  int
}

func (p *Pipeline) take(bytes int64) *credit {
	p.held += bytes
	p.scheduler.held += bytes
	return &credit{p, bytes, 1}
}

// release is called for each holder; the last one gives the memory back.
func (c *credit) release() {
	if c.holders--; c.holders == 0 {
		c.resize(0)
	}
}

// resize follows an item that became smaller or larger. Growth is not refused: the item is here already.
func (c *credit) resize(bytes int64) {
	c.pipeline.held += bytes - c.bytes
	c.pipeline.scheduler.held += bytes - c.bytes
	c.bytes = bytes
}

// admits reports whether a source may put another item in. Within the grant that takes free memory only;
// beyond it, it must also be nobody's turn who is within theirs, which the scheduler sees to.
func (p *Pipeline) admits(borrow bool) bool {
	s := p.scheduler
	switch {
	case p.held == 0:
		return true
	case s.options.Memory > 0 && s.held >= s.options.Memory, p.options.Memory > 0 && p.held >= p.options.Memory:
		return false
	}
	return borrow || s.options.Memory == 0 || float64(p.held) < p.member.Grant.Memory
}
