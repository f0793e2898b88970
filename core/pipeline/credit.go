package pipeline

import "github.com/ratchetos/ratchet/core/pipeline/share"

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

// admitted reports whether a source may put another item in. Its calls that run count as what its items were so far: they
// will come, and before the first has come nothing is known.
func (n *node) admitted(borrow bool) bool {
	p := n.pipeline
	s := p.scheduler
	coming := 0.0
	if n.items > 0 {
		coming = float64(n.running) * float64(n.bytes) / float64(n.items)
	}
	return share.Credit{
		Held: float64(p.held) + coming, Most: float64(p.options.Memory), Grant: p.member.Grant.Memory,
		All: float64(s.held) + coming, Total: float64(s.options.Memory),
	}.Admits(borrow)
}
