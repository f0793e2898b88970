package vni

import (
	"context"
	"maps"
	"time"
)

// patience is how long groups are not told that a VNI is down which is being attached elsewhere: they would write that to
// the disk before the epoch and the place that end it.
const patience = 200 * time.Millisecond

// inform tells Moved.
func (p *Part) inform(ctx context.Context) {
	for await(ctx, p.news) {
		for id, l := range p.due() {
			if p.o.Moved == nil {
				continue
			}
			if err := p.o.Moved(ctx, l); err != nil && ctx.Err() == nil {
				p.o.Log.Warn("interface groups not told where a VNI is; they are in a second", "vni", id, "err", err)
			}
		}
	}
}

// due takes what Moved is to hear now. It counts as told from here on: what is told again while Moved is busy must not be the
// place of before.
func (p *Part) due() map[uint32]Location {
	p.mu.Lock()
	defer p.mu.Unlock()
	all, now := p.tell, clock()
	p.tell = map[uint32]Location{}
	maps.DeleteFunc(p.soon, func(id uint32, until time.Duration) bool { return now >= until || all[id].Up })
	for id, l := range all {
		if _, wait := p.soon[id]; wait {
			p.tell[id] = l
			delete(all, id)
		}
	}
	maps.Copy(p.told, all)
	return all
}
