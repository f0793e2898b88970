package balancer

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/ratchetos/ratchet/core/plugin/pluginpb"
	"github.com/ratchetos/ratchet/plugins/dataplane/balancer/api"
	"github.com/ratchetos/ratchet/plugins/dataplane/balancer/table"
	"github.com/ratchetos/ratchet/plugins/dataplane/control"
)

// Bounds of a capture: 8,192 packets of 256 bytes are 2.2 MB.
const (
	maxPackets = 8192
	maxSeconds = 60
)

// Methods are the part's management calls.
func Methods() []*pluginpb.Method {
	return []*pluginpb.Method{
		{Name: api.MethodVIPs, Summary: "VIPs with their backends, capacity and counters", ReadOnly: true},
		{Name: api.MethodFlows, Summary: "how full the flow table is, by state and backend", ReadOnly: true},
		{Name: api.MethodDrops, Summary: "packets that were not forwarded, by reason", ReadOnly: true},
		{Name: api.MethodPeers, Summary: "the other balancers", ReadOnly: true},
		{Name: api.MethodWeights, Summary: "change weights of backends, 0 to drain"},
		{Name: api.MethodCapture, Summary: "packets of a VIP or of a reason, as pcap"},
		{Name: api.MethodIdentity, Summary: "give this box the identity with which it joins a peer"},
	}
}

// Invoke answers one of Methods.
func (p *Part) Invoke(ctx context.Context, method string, request []byte) ([]byte, error) {
	r := p.running()
	if r == nil {
		return nil, errStopped
	}
	switch method {
	case api.MethodVIPs:
		var q api.VIPsRequest
		if err := decode(request, &q); err != nil {
			return nil, err
		}
		return json.Marshal(api.VIPsReply{VIPs: r.showVIPs(q.Name)})
	case api.MethodFlows:
		return json.Marshal(r.showFlows())
	case api.MethodDrops:
		return json.Marshal(r.showDrops())
	case api.MethodPeers:
		now := p.now()
		return json.Marshal(api.PeersReply{Active: r.active(now), Peers: r.showPeers(now)})
	case api.MethodWeights:
		var q api.WeightsRequest
		if err := decode(request, &q); err != nil {
			return nil, err
		}
		if err := r.setWeights(ctx, q.Changes); err != nil {
			return nil, err
		}
		return []byte("{}"), nil
	case api.MethodCapture:
		var q api.CaptureRequest
		if err := decode(request, &q); err != nil {
			return nil, err
		}
		return r.capture(ctx, q)
	case api.MethodIdentity:
		var q api.IdentityRequest
		if err := decode(request, &q); err != nil {
			return nil, err
		}
		return r.setIdentity(ctx, q)
	}
	return nil, fmt.Errorf("unknown method %q", method)
}

func decode(request []byte, out any) error {
	if len(bytes.TrimSpace(request)) == 0 {
		return nil
	}
	d := json.NewDecoder(bytes.NewReader(request))
	d.DisallowUnknownFields()
	if err := d.Decode(out); err != nil {
		return fmt.Errorf("parse request: %w", err)
	}
	return nil
}

// capture waits for packets, a bounded time and number.
func (r *run) capture(ctx context.Context, q api.CaptureRequest) ([]byte, error) {
	if q.Packets == 0 {
		q.Packets = 100
	}
	if q.Seconds == 0 {
		q.Seconds = 10
	}
	if q.Packets < 1 || q.Packets > maxPackets || q.Seconds < 1 || q.Seconds > maxSeconds {
		return nil, fmt.Errorf("capture of %d packets in %d s: ask for 1 to %d packets and 1 to %d s", q.Packets, q.Seconds, maxPackets, maxSeconds)
	}
	var f table.Filter
	if q.VIP != "" {
		r.mu.Lock()
		v := r.byName[q.VIP]
		if v != nil {
			f.VIP = v.id
		}
		r.mu.Unlock()
		if v == nil {
			return nil, fmt.Errorf("no VIP %q: ratchetctl dataplane vips lists them", q.VIP)
		}
	}
	if q.Reason != "" {
		var ok bool
		if f.Reason, ok = table.ReasonByName(q.Reason); !ok {
			return nil, fmt.Errorf("no reason %q: ratchetctl dataplane drops lists them", q.Reason)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, time.Duration(q.Seconds)*time.Second)
	defer cancel()
	var file bytes.Buffer
	n, err := r.table.Capture(ctx, f, q.Packets, &file)
	if err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return nil, err
	}
	return json.Marshal(api.CaptureReply{Packets: n, PCAP: file.Bytes()})
}

// setIdentity stores the file with which this box joins a peer.
func (r *run) setIdentity(ctx context.Context, q api.IdentityRequest) ([]byte, error) {
	r.peers.events.Lock()
	p := r.peers.all[q.Peer]
	r.peers.events.Unlock()
	if p == nil {
		return nil, fmt.Errorf("no peer %q: name it in balancer.peers first", q.Peer)
	}
	if _, err := control.ParseIdentity(q.PEM); err != nil {
		return nil, fmt.Errorf("identity for peer %s: %w", q.Peer, err)
	}
	if err := r.o.State.Put(ctx, identityKey(q.Peer), q.PEM); err != nil {
		return nil, fmt.Errorf("store identity: %w", err)
	}
	select {
	case p.kick <- struct{}{}:
	default:
	}
	return []byte("{}"), nil
}
