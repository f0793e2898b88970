package live

import (
	"context"
	"math"
	"slices"
	"time"

	"github.com/ratchetos/ratchet/plugins/migration/forecast"
	"github.com/ratchetos/ratchet/plugins/migration/schedule"
	"github.com/ratchetos/ratchet/plugins/migration/schedule/budget"
	"github.com/ratchetos/ratchet/plugins/migration/schedule/draw"
	"github.com/ratchetos/ratchet/plugins/migration/schedule/watch"
)

// shortest is the least time over which the moves' own bytes are taken off a load.
const shortest = time.Second

// link is what moves share bytes a second of: a link of the network, or the processors of a host, of which each carries so many.
type link struct {
	resource
	hosts []string
	// budget is what moves may use together, in the unit; 0 is all. carries is bytes a second of one unit.
	budget  float64
	carries float64
	// own is what moves have sent over it since ownSince, sent what each has in all.
	own      uint64
	ownSince time.Time
	sent     map[string]uint64
}

func newLink(ctx context.Context, conf schedule.Link, o Options) (*link, error) {
	k := &link{
		resource: resource{name: conf.Name, unit: draw.BytesPerSecond, whole: float64(conf.Capacity)},
		hosts:    conf.Hosts, budget: float64(conf.Budget), carries: 1, ownSince: o.Now(), sent: make(map[string]uint64),
	}
	agent := watch.Agent{Host: conf.Watch.Host, What: watch.NIC(conf.Watch.NIC)}
	return k, k.open(ctx, conf.Watch, agent, o)
}

// newCPU is the processors of a host: every move from or to it takes some.
func newCPU(ctx context.Context, conf schedule.Host, o Options) (*link, error) {
	k := &link{
		resource: resource{name: conf.Name + "/cpu", unit: draw.Processors, whole: float64(conf.CPU.Count)},
		hosts:    []string{conf.Name}, budget: conf.CPU.Budget, carries: conf.CPU.PerCPU(), ownSince: o.Now(), sent: make(map[string]uint64),
	}
	return k, k.open(ctx, conf.CPU.Watch, watch.Agent{Host: conf.Name, What: watch.Processors}, o)
}

// sample takes a load in, less what moves have used themselves.
func (k *link) sample(s watch.Sample) {
	if took := s.At.Sub(k.ownSince); took >= shortest {
		s.Value -= float64(k.own) / took.Seconds() / k.carries
	}
	k.own, k.ownSince = 0, s.At
	k.take(s)
}

// count notes what a move has sent over the link.
func (k *link) count(t budget.Transfer) {
	if !slices.Contains(t.Links, k.name) {
		return
	}
	if n := t.Sent; n > k.sent[t.ID] {
		k.own += n - k.sent[t.ID]
	}
	k.sent[t.ID] = t.Sent
}

// capacity is all that it carries, budgeted what moves may use together, free what they may use now: bytes a second.
func (k *link) capacity() float64 { return k.whole * k.carries }

func (k *link) budgeted() float64 {
	if k.budget == 0 {
		return k.capacity()
	}
	return min(k.budget*k.carries, k.capacity())
}

func (k *link) free() float64 {
	if k.loadAt.IsZero() {
		return k.budgeted()
	}
	return min(k.budgeted(), max(forecast.Floor*k.capacity(), k.capacity()-k.load*k.carries))
}

// lane is the link for the next hours.
func (k *link) lane(now time.Time) schedule.Lane {
	lane := schedule.Lane{Name: k.name, Hosts: k.hosts, Budget: k.budgeted()}
	if !k.known() {
		return lane
	}
	band := k.forecaster.Forecast(now)
	lane.From, lane.Step = k.forecaster.Time(band.From), laneStep
	if !k.forecaster.Worth() {
		// There is nothing to follow: as it is now, it stays.
		level, _ := k.forecaster.Recent(time.Hour)
		if !math.IsNaN(level) {
			lane.Expected = []float64{forecast.Free(level) * k.capacity()}
			lane.Sure = []float64{forecast.Free(band.Q[forecast.Q90][0]) * k.capacity()}
		}
		return lane
	}
	lane.Skilled = true
	per := int(laneStep / k.forecaster.Step())
	for i := 0; i+per <= band.Len(); i += per {
		lane.Expected = append(lane.Expected, forecast.Free(mean(band.Mean[i:i+per]))*k.capacity())
		lane.Sure = append(lane.Sure, forecast.Free(mean(band.Q[forecast.Q90][i:i+per]))*k.capacity())
	}
	return lane
}

func mean(values []float64) float64 {
	sum := 0.0
	for _, v := range values {
		sum += v
	}
	return sum / float64(max(1, len(values)))
}
