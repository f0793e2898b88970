package group

import (
	"context"
	"encoding/json"
	"fmt"
	"net"

	"github.com/ratchetos/ratchet/core/plugin/pluginpb"
	"github.com/ratchetos/ratchet/plugins/dataplane/group/api"
	"github.com/ratchetos/ratchet/plugins/dataplane/overlay"
)

// Methods are what Invoke answers.
func Methods() []*pluginpb.Method {
	return []*pluginpb.Method{
		{Name: api.MethodList, Summary: "interface groups with their members", ReadOnly: true},
		{Name: api.MethodShow, Summary: "one interface group", ReadOnly: true},
		{Name: api.MethodClients, Summary: "hosts that follow the groups, the slowest first", ReadOnly: true},
		{Name: api.MethodLog, Summary: "the latest changes of the groups", ReadOnly: true},
		{Name: api.MethodCreate, Summary: "make an interface group"},
		{Name: api.MethodDelete, Summary: "delete an interface group"},
		{Name: api.MethodAdd, Summary: "make a VNI a member of a group"},
		{Name: api.MethodRemove, Summary: "end a membership at once"},
		{Name: api.MethodDrain, Summary: "let a member keep its flows and get no new ones"},
		{Name: api.MethodPromote, Summary: "lead the groups from this box"},
	}
}

// Invoke answers the management calls.
func (p *Part) Invoke(ctx context.Context, method string, request []byte) ([]byte, error) {
	switch method {
	case api.MethodList:
		return p.list()
	case api.MethodClients, api.MethodLog:
		return p.look(method)
	case api.MethodShow:
		return with(request, p.showOne)
	case api.MethodCreate:
		return with(request, func(r api.CreateRequest) (any, error) {
			policy := Closed
			if r.Policy != "" {
				var err error
				if policy, err = ParsePolicy(r.Policy); err != nil {
					return nil, err
				}
			}
			return p.changed(ctx, func(s *Store) (Change, error) { return s.Create(r.Name, r.Addresses, policy) })
		})
	case api.MethodDelete:
		return with(request, func(r api.Name) (any, error) {
			return p.changed(ctx, func(s *Store) (Change, error) { return s.Delete(r.Name) })
		})
	case api.MethodAdd:
		return with(request, func(r api.AddRequest) (any, error) {
			m, err := memberOf(r)
			if err != nil {
				return nil, err
			}
			v, err := p.add(ctx, r.Group, m)
			return api.Changed{Version: v.String()}, err
		})
	case api.MethodRemove:
		return with(request, func(r api.MemberRequest) (any, error) {
			return p.changed(ctx, func(s *Store) (Change, error) { return s.Remove(r.Group, r.Member) })
		})
	case api.MethodDrain:
		return with(request, func(r api.DrainRequest) (any, error) {
			return p.changed(ctx, func(s *Store) (Change, error) { return s.Drain(r.Group, r.Member, !r.Undo) })
		})
	case api.MethodPromote:
		return p.promote(ctx)
	}
	return nil, fmt.Errorf("unknown method %q", method)
}

func with[R any](request []byte, f func(R) (any, error)) ([]byte, error) {
	var r R
	if err := json.Unmarshal(request, &r); err != nil {
		return nil, fmt.Errorf("read request: %w", err)
	}
	reply, err := f(r)
	if err != nil {
		return nil, err
	}
	return json.Marshal(reply)
}

func (p *Part) changed(ctx context.Context, f func(*Store) (Change, error)) (any, error) {
	v, err := p.change(ctx, f)
	return api.Changed{Version: v.String()}, err
}

// promote takes a term above all that this box has heard of, also when it is fenced.
func (p *Part) promote(ctx context.Context) ([]byte, error) {
	p.writing.Lock()
	defer p.writing.Unlock()
	p.mu.Lock()
	store := p.store
	p.mu.Unlock()
	if store == nil {
		return nil, errStopped
	}
	if err := p.commit(ctx, store, p.promotion); err != nil {
		return nil, err
	}
	p.mu.Lock()
	v := store.Version()
	p.mu.Unlock()
	return json.Marshal(api.Changed{Version: v.String()})
}

func memberOf(r api.AddRequest) (Member, error) {
	m := Member{Name: r.Member, VNI: r.VNI, Weight: r.Weight}
	if !r.Host.IsValid() {
		if r.MAC != "" {
			return m, fmt.Errorf("mac %s without host: where the VNI is attached is told with both", r.MAC)
		}
		return m, nil
	}
	m.Underlay = r.Host.Unmap()
	mac := overlay.MAC()
	if r.MAC != "" {
		var err error
		if mac, err = net.ParseMAC(r.MAC); err != nil || len(mac) != 6 {
			return m, fmt.Errorf("mac %q is not the address of an Ethernet interface, as 02:00:00:00:00:01", r.MAC)
		}
	}
	m.MAC = [6]byte(mac)
	return m, nil
}

func (p *Part) list() ([]byte, error) {
	p.mu.Lock()
	if p.store == nil {
		p.mu.Unlock()
		return nil, errStopped
	}
	reply := api.ListReply{Version: p.store.Version().String(), Leads: p.store.Leads(), Groups: []api.Group{}}
	groups := p.store.Groups()
	p.mu.Unlock()
	for _, g := range groups { // outside the lock: hosts that ask would wait for a second's work, with leases that run out
		reply.Groups = append(reply.Groups, shown(g))
	}
	return json.Marshal(reply)
}

func (p *Part) look(method string) ([]byte, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.store == nil {
		return nil, errStopped
	}
	version := p.store.Version().String()
	if method == api.MethodClients {
		reply := api.ClientsReply{Version: version, Clients: []api.Client{}}
		for _, c := range p.clients.List(p.now()) {
			reply.Clients = append(reply.Clients, shownClient(c))
		}
		return json.Marshal(reply)
	}
	reply := api.LogReply{Entries: []api.Entry{}}
	for _, e := range p.store.History() {
		reply.Entries = append(reply.Entries, api.Entry{Version: e.Version.String(), What: e.What})
	}
	return json.Marshal(reply)
}

func (p *Part) showOne(r api.Name) (any, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.store == nil {
		return nil, errStopped
	}
	g, err := p.store.find(r.Name)
	if err != nil {
		return nil, err
	}
	return shown(g), nil
}

func shown(g *Group) api.Group {
	out := api.Group{ID: g.ID, Name: g.Name, Addresses: g.Addresses, Policy: g.Policy.String(), Changed: g.Changed, Members: []api.Member{}}
	places := [MaxMembers + 1]int{} // the last one counts nobody's
	for _, slot := range Spread(g.Members) {
		places[min(slot, MaxMembers)]++
	}
	for _, m := range g.Members {
		a := api.Member{
			Name: m.Name, State: m.State.String(), Weight: m.Weight, Share: float64(places[m.Slot]) / RingSize,
			VNI: m.VNI, Host: m.Underlay, Epoch: m.Epoch,
		}
		if m.Drained {
			a.State += ", drained"
		}
		if m.Underlay.IsValid() {
			a.MAC = net.HardwareAddr(m.MAC[:]).String()
		}
		out.Members = append(out.Members, a)
	}
	return out
}
