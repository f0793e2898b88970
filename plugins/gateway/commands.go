package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/ratchetos/ratchet/core/pipeline"
	"github.com/ratchetos/ratchet/core/plugin/pluginpb"
	"github.com/ratchetos/ratchet/plugins/gateway/api"
	"github.com/ratchetos/ratchet/plugins/gateway/nbd"
	"github.com/ratchetos/ratchet/plugins/gateway/target/exports"
	"github.com/ratchetos/ratchet/plugins/gateway/volume"
)

// command is one method of the management service.
type command struct {
	method *pluginpb.Method
	run    func(f *Feature, ctx context.Context, request []byte) (any, error)
}

// commands are what Invoke answers.
func commands() []command {
	return []command{
		{&pluginpb.Method{Name: api.MethodList, Summary: "volumes with cache and upload state", ReadOnly: true}, (*Feature).listVolumes},
		{&pluginpb.Method{Name: api.MethodShow, Summary: "one volume", ReadOnly: true}, (*Feature).showVolume},
		{&pluginpb.Method{Name: api.MethodStats, Summary: "requests and latencies of one volume", ReadOnly: true}, (*Feature).stats},
		{&pluginpb.Method{Name: api.MethodAttach, Summary: "how clients reach one volume", ReadOnly: true}, (*Feature).attach},
		{&pluginpb.Method{Name: pipeline.MethodShow, Summary: "uploads and read-aheads by stage", ReadOnly: true}, (*Feature).showPipelines},
		{&pluginpb.Method{Name: api.MethodWriters, Summary: "who wrote one volume under which epoch", ReadOnly: true}, (*Feature).writers},
		{&pluginpb.Method{Name: api.MethodTokens, Summary: "who may attach one volume", ReadOnly: true}, (*Feature).listTokens},
		{&pluginpb.Method{Name: api.MethodMake, Summary: "give an identity a token for one volume"}, (*Feature).makeToken},
		{&pluginpb.Method{Name: api.MethodRevoke, Summary: "take a token back"}, (*Feature).revokeToken},
		{&pluginpb.Method{Name: api.MethodOpen, Summary: "let everyone in to one volume"}, (*Feature).openToAll},
		{&pluginpb.Method{Name: api.MethodHandover, Summary: "give the right to write to another identity"}, (*Feature).handover},
		{&pluginpb.Method{Name: api.MethodShrink, Summary: "make one volume smaller"}, (*Feature).shrink},
		{&pluginpb.Method{Name: api.MethodEvict, Summary: "forget local copies of what the store holds"}, (*Feature).evict},
		{&pluginpb.Method{Name: api.MethodScrub, Summary: "read the local part of one volume through and check it"}, (*Feature).scrubVolume},
		{&pluginpb.Method{Name: api.MethodRelease, Summary: "give the disk space of a volume back that is not configured"}, (*Feature).release},
		{&pluginpb.Method{Name: api.MethodFlush, Summary: "upload what has been written and wait for it"}, (*Feature).flush},
	}
}

// Invoke implements plugin.Invoker.
func (f *Feature) Invoke(ctx context.Context, method string, request []byte) ([]byte, error) {
	for _, c := range commands() {
		if c.method.GetName() != method {
			continue
		}
		if !f.started() {
			return nil, errors.New("the gateway has not started")
		}
		reply, err := c.run(f, ctx, request)
		if err != nil {
			return nil, err
		}
		return json.Marshal(reply)
	}
	return nil, fmt.Errorf("method %q is not known", method)
}

func (f *Feature) started() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.session != nil
}

func decode(p []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(p))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return fmt.Errorf("read request: %w", err)
	}
	return nil
}

func (f *Feature) listVolumes(context.Context, []byte) (any, error) {
	list := []api.Volume{}
	for _, r := range f.list() {
		list = append(list, r.show())
	}
	return api.ListReply{Volumes: list}, nil
}

func (f *Feature) showVolume(_ context.Context, request []byte) (any, error) {
	r, err := f.named(request)
	if err != nil {
		return nil, err
	}
	return r.show(), nil
}

// named finds the volume of a VolumeRequest.
func (f *Feature) named(request []byte) (*runner, error) {
	var q api.VolumeRequest
	if err := decode(request, &q); err != nil {
		return nil, err
	}
	return f.find(q.Name)
}

func (f *Feature) list() []*runner {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.runners
}

func (f *Feature) find(name string) (*runner, error) {
	for _, r := range f.list() {
		if r.name == name {
			return r, nil
		}
	}
	return nil, fmt.Errorf("there is no volume %q: see ratchetctl volume list", name)
}

// open finds a volume that is up.
func (f *Feature) open(name string) (*runner, *volume.Volume, error) {
	r, err := f.find(name)
	if err != nil {
		return nil, nil, err
	}
	v, err := r.up()
	return r, v, err
}

// up returns the volume, or why it is not up.
func (r *runner) up() (*volume.Volume, error) {
	v, state, err := r.current()
	if v != nil {
		return v, nil
	}
	if err == nil {
		err = errors.New("try again in a moment")
	}
	return nil, fmt.Errorf("volume %s is %s: %w", r.name, state, err)
}

func (f *Feature) flush(ctx context.Context, request []byte) (any, error) {
	var q api.FlushRequest
	if err := decode(request, &q); err != nil {
		return nil, err
	}
	r, v, err := f.open(q.Name)
	if err != nil {
		return nil, err
	}
	if q.TimeoutMS > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Duration(q.TimeoutMS)*time.Millisecond)
		defer cancel()
	}
	if err := r.uploaded(ctx, v); err != nil {
		return nil, err
	}
	return r.show(), nil
}

// errHeld is a volume of which something is to be uploaded, and nothing may be.
var errHeld = errors.New("upload.hold is set in its configuration: nothing is uploaded before that is taken away")

// uploaded waits until everything that was written so far is in the store.
func (r *runner) uploaded(ctx context.Context, v *volume.Volume) error {
	held := r.settings().Upload.Hold
	err := errHeld
	if !held || v.Status().DirtyBytes == 0 {
		err = v.WaitUploaded(ctx)
	}
	switch {
	case err == nil:
		return nil
	case held && !errors.Is(err, errHeld):
		err = fmt.Errorf("%w; %w", err, errHeld)
	case errors.Is(err, context.DeadlineExceeded):
		err = fmt.Errorf("it goes on, and is not over in the time that was given: %w", err)
	}
	return fmt.Errorf("wait for the upload of volume %s: %w", r.name, err)
}

func (f *Feature) attach(_ context.Context, request []byte) (any, error) {
	r, err := f.named(request)
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	c, _ := parse(f.section)
	f.mu.Unlock()
	own := r.settings()
	reply := api.Attach{Export: r.name, Size: uint64(own.Size), Token: f.keeper.Closed(r.name)}
	for _, listen := range c.NBD.Listen {
		network, address, _ := strings.Cut(listen, ":")
		l := api.Listener{Network: network, Address: address, Ack: own.Ack}
		if l.Ack == "" {
			l.Ack = ackDefault(listen)
		}
		if network == "tcp" && c.NBD.TLS.given {
			l.TLS, l.ClientCertificate = true, c.NBD.TLS.ClientCA != ""
		}
		reply.Listeners = append(reply.Listeners, l)
	}
	for _, e := range c.Target.List(c.exportable()) {
		if e.Volume != r.name {
			continue
		}
		t := api.Target{Protocol: string(e.Protocol), Name: e.Name, Identity: e.Identity(), CHAP: e.CHAP != (exports.CHAP{}), Clients: e.Clients}
		for _, p := range e.Portals {
			t.Portals = append(t.Portals, p.String())
		}
		reply.Targets = append(reply.Targets, t)
	}
	return reply, nil
}

func (f *Feature) stats(_ context.Context, request []byte) (any, error) {
	r, err := f.named(request)
	if err != nil {
		return nil, err
	}
	reply := api.Stats{Name: r.name, Commands: []api.Command{}}
	sum := r.requests()
	reply.InFlight = sum.InFlight
	for _, c := range byCommand(sum) {
		if c.count.Ops == 0 {
			continue
		}
		reply.Commands = append(reply.Commands, api.Command{
			Name: c.name, Ops: c.count.Ops, Bytes: c.count.Bytes, Errors: c.count.Errors,
			MeanUS: uint64(c.count.Total.Microseconds()) / c.count.Ops,
			P50US:  quantile(c.count, 0.5), P99US: quantile(c.count, 0.99), P999US: quantile(c.count, 0.999),
		})
	}
	return reply, nil
}

func quantile(c nbd.OpCount, q float64) uint64 { return uint64(c.Quantile(q).Microseconds()) }
