package live

import (
	"context"
	"slices"
	"time"

	"github.com/ratchetos/ratchet/plugins/migration/forecast"
	"github.com/ratchetos/ratchet/plugins/migration/schedule"
	"github.com/ratchetos/ratchet/plugins/migration/schedule/draw"
	"github.com/ratchetos/ratchet/plugins/migration/schedule/watch"
)

// room is the memory of a host, which has to hold who comes.
type room struct {
	resource
	host string
	// spare is what stays free, arrived what has come since it was measured: bytes.
	spare   float64
	arrived float64
}

func newRoom(ctx context.Context, conf schedule.Host, o Options) (*room, error) {
	m := &room{
		resource: resource{name: conf.Name + "/memory", unit: draw.Bytes, whole: float64(conf.Memory.Size)},
		host:     conf.Name, spare: float64(conf.Memory.Keep),
	}
	return m, m.open(ctx, conf.Memory.Watch, watch.Agent{Host: conf.Name, What: watch.Memory}, o)
}

// sample takes in what is used: who has arrived is in it.
func (m *room) sample(s watch.Sample) {
	m.arrived = 0
	m.take(s)
}

// outlook is the room for the next hours; false while nobody knows how much there is.
func (m *room) outlook(now time.Time) (schedule.Room, bool) {
	if !m.fresh(now) {
		return schedule.Room{}, false
	}
	r := schedule.Room{Host: m.host, Looked: m.loadAt, Now: m.whole - m.load - m.arrived - m.spare}
	if !m.known() || !m.forecaster.Worth() {
		return r, true // there is nothing to follow: as it is now, it stays
	}
	band := m.forecaster.Forecast(now)
	r.From, r.Step = m.forecaster.Time(band.From), laneStep
	per := int(laneStep / m.forecaster.Step())
	for some := range slices.Chunk(band.Q[forecast.Q90], per) {
		r.Sure = append(r.Sure, m.whole*(1-slices.Max(some))-m.arrived-m.spare)
	}
	return r, true
}
