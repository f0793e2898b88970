package lease

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/ratchetos/ratchet/core/plugin/pluginpb"
	"github.com/ratchetos/ratchet/plugins/dataplane/lease/api"
	"github.com/ratchetos/ratchet/plugins/dataplane/lease/engine"
)

const (
	// listLimit is how many leases a reply holds unless its request says otherwise, mostListed the most it may say.
	listLimit, mostListed = 1000, 100_000
	// tableLimit is how many the live table shows: those that run out first.
	tableLimit = 100
)

// Methods are what Invoke answers.
func Methods() []*pluginpb.Method {
	return []*pluginpb.Method{
		{Name: api.MethodList, Summary: "leases that consumers may be using", ReadOnly: true},
		{Name: api.MethodShow, Summary: "one leased service with its producers", ReadOnly: true},
		{Name: api.MethodServices, Summary: "leased services", ReadOnly: true},
		{Name: api.MethodRevoke, Summary: "end leases of a producer or a consumer"},
	}
}

// Invoke answers the management calls.
func (p *Part) Invoke(_ context.Context, method string, request []byte) ([]byte, error) {
	switch method {
	case api.MethodList:
		return with(p, request, func(b *engine.Book, r api.ListRequest) (any, error) {
			if r.Limit <= 0 {
				r.Limit = listLimit
			}
			return api.ListReply{Leases: leases(b, r.Service, min(r.Limit, mostListed))}, nil
		})
	case api.MethodServices:
		return with(p, request, func(b *engine.Book, _ struct{}) (any, error) {
			reply := api.ServicesReply{Services: []api.Service{}}
			for _, v := range b.Services(bootNow()) {
				s := service(v)
				s.Producers = nil
				reply.Services = append(reply.Services, s)
			}
			return reply, nil
		})
	case api.MethodShow:
		return with(p, request, func(b *engine.Book, r api.Name) (any, error) {
			for _, v := range b.Services(bootNow()) {
				if v.Name == r.Name {
					return service(v), nil
				}
			}
			return nil, fmt.Errorf("no service %q: `ratchetctl dataplane lease services` lists them", r.Name)
		})
	case api.MethodRevoke:
		return with(p, request, func(b *engine.Book, r api.RevokeRequest) (any, error) {
			if r.Producer == "" && r.Consumer == "" {
				return nil, fmt.Errorf("name a producer or a consumer whose leases of %q are to end", r.Service)
			}
			n, lost := b.Revoke(bootNow(), r.Service, r.Producer, r.Consumer)
			p.tell(r.Service, lost)
			return api.RevokeReply{Revoked: n}, nil
		})
	}
	return nil, fmt.Errorf("unknown method %q", method)
}

// with reads a request and answers it with the book locked.
func with[R any](p *Part, request []byte, f func(*engine.Book, R) (any, error)) ([]byte, error) {
	var r R
	if len(request) > 0 {
		if err := json.Unmarshal(request, &r); err != nil {
			return nil, fmt.Errorf("read request: %w", err)
		}
	}
	p.mu.Lock()
	if p.book == nil {
		p.mu.Unlock()
		return nil, errStopped
	}
	reply, err := f(p.book, r)
	p.mu.Unlock()
	if err != nil {
		return nil, err
	}
	return json.Marshal(reply)
}

func leases(b *engine.Book, service string, limit int) []api.Lease {
	out := []api.Lease{}
	for _, l := range b.Leases(bootNow(), service, limit) {
		out = append(out, api.Lease{
			Service: l.Service, Producer: l.Producer, Consumer: l.Consumer, Epoch: l.Epoch,
			Left: l.Left.Truncate(10 * time.Millisecond).String(), Ending: l.Over,
		})
	}
	return out
}

func service(v engine.ServiceView) api.Service {
	s := api.Service{
		Name: v.Name, Addresses: v.Addresses, VNI: v.VNI, TTL: v.TTL.String(), Consumers: v.Consumers, Leased: v.Leased,
		Share: v.Share, Granted: v.Granted, Renewed: v.Renewed, Denied: v.Denied, Recovering: v.Recovering,
	}
	for _, p := range v.Producers {
		state := p.State.String()
		if p.Held <= 0 {
			state = "silent"
		}
		s.Producers = append(s.Producers, api.Producer{
			Name: p.Name, Host: p.Host, At: p.Target.Host, VNI: p.Target.VNI, Epoch: p.Epoch, State: state, Share: p.Share, Leased: p.Leased,
		})
	}
	return s
}

// Tables are what page, console and CLI show.
func (p *Part) Tables() []*pluginpb.Table {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.book == nil {
		return nil
	}
	producers := &pluginpb.Table{Name: "producers", Columns: api.ProducerColumns()}
	for _, v := range p.book.Services(bootNow()) {
		for _, row := range service(v).Rows() {
			producers.Rows = append(producers.Rows, &pluginpb.Row{Cells: row})
		}
	}
	all := &pluginpb.Table{Name: "leases", Columns: api.LeaseColumns()}
	for _, l := range leases(p.book, "", tableLimit) {
		all.Rows = append(all.Rows, &pluginpb.Row{Cells: l.Cells()})
	}
	return []*pluginpb.Table{producers, all}
}

// Gauges are the metrics.
func (p *Part) Gauges() (out []*pluginpb.Gauge) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.book == nil {
		return nil
	}
	for _, s := range p.book.Services(bootNow()) {
		labels := map[string]string{"service": s.Name}
		for _, g := range []struct {
			name, help string
			value      uint64
			counter    bool
		}{
			{"lease_leased", "leases that consumers may be using", s.Leased, false},
			{"lease_share", "leases that this box may grant", s.Share, false},
			{"lease_consumers", "hosts that lease the service", uint64(s.Consumers), false},
			{"lease_granted_total", "leases granted", s.Granted, true},
			{"lease_renewed_total", "leases renewed", s.Renewed, true},
			{"lease_denied_total", "requests for which no producer had room", s.Denied, true},
		} {
			out = append(out, &pluginpb.Gauge{Name: g.name, Help: g.help, Value: float64(g.value), Labels: labels, Counter: g.counter})
		}
	}
	return out
}

// Health says what an operator should look at.
func (p *Part) Health() (pluginpb.Event_Health, string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.book == nil {
		return pluginpb.Event_OK, ""
	}
	if p.problem != nil {
		return pluginpb.Event_DEGRADED, fmt.Sprintf("producers cannot be taken over: %v", p.problem)
	}
	for _, s := range p.book.Services(bootNow()) {
		if s.Consumers > 0 && s.Share == 0 && !s.Recovering {
			return pluginpb.Event_DEGRADED, fmt.Sprintf("service %s has consumers and no producer: is the agent of a producer's host running?", s.Name)
		}
	}
	return pluginpb.Event_OK, ""
}
