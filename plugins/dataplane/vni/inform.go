package vni

import (
	"context"
	"maps"
	"time"
)

// patience is how long groups are not told that a VNI is down which is being attached elsewhere: they would write that to
// the disk before the epoch and the place that end it.
const patience = 200 * time.Millisecond

// inform tells Moved. Groups that do not listen, as those that another box leads, are told once a second; the log once.
func (p *Part) inform(ctx context.Context) {
	refused := map[uint32]string{}
	for await(ctx, p.news) {
		for id, l := range p.due() {
			if p.o.Moved == nil {
				continue
			}
			why := ""
			if err := p.o.Moved(ctx, l); err != nil {
				why = err.Error()
			}
			if why != "" && why != refused[id] && ctx.Err() == nil {
				p.o.Log.Warn("interface groups not told where a VNI is; tried again every second", "vni", id, "err", why)
			}
			refused[id] = why
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
