package trial

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"

	"github.com/ratchetos/ratchet/core/plugin"
	"github.com/ratchetos/ratchet/plugins/migration"
	"github.com/ratchetos/ratchet/plugins/migration/api"
	"github.com/ratchetos/ratchet/qemu/lab"
)

// Links is the whole product in small: hosts of which beta is reached over the link left, gamma over the link right, and delta
// is behind right as well; three guests that hold unlike amounts of memory, and the migration plugin with its templates, queue, schedule and runner.
//
// There is always one guest that needs left, one that needs right and one that needs both, so the order matters: the last one
// between the others leaves a link idle twice.
type Links struct {
	Lab   *lab.Lab
	Meter Meter
	// Guests by the names of their VMs.
	Guests map[string]*lab.Guest

	o       LinksOptions
	feature plugin.Feature
	hosts   map[string]*lab.Host
	woken   chan struct{}
}

// LinksOptions are what guests hold and links carry.
type LinksOptions struct {
	// Budget of each link in bytes a second.
	Budget uint64
	// Fill is what each guest writes to beside what its system holds, in MiB; by the order of Crossing.
	Fill [3]int
	// Dirty is what each of them writes, bytes a second.
	Dirty int64
	Log   *slog.Logger
}

// More hosts, of Links.
const (
	Gamma = "gamma"
	Delta = "delta"
)

// Crossing is how a guest goes: there by the template, and back.
type Crossing struct {
	VM, From, To string
	Links        []string
}

// Crossings of the guests. Where they go is what the template's placement makes of hosts of the same size.
func Crossings() []Crossing {
	return []Crossing{
		{"vm1", Alpha, Beta, []string{left}},
		{"vm2", Alpha, Gamma, []string{right}},
		{"vm3", Delta, Beta, []string{left, right}},
	}
}

const left, right = "left", "right"

// Templates of Links.
const (
	// TemplateAll selects the three guests, TemplatePair those that have a link each.
	TemplateAll  = "all"
	TemplatePair = "pair"
)

// OpenLinks starts everything, with the guests on the hosts from which they go.
func OpenLinks(ctx context.Context, o LinksOptions) (l *Links, err error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	l = &Links{o: o, Guests: map[string]*lab.Guest{}, hosts: map[string]*lab.Host{}, woken: make(chan struct{}, 1), feature: migration.New()}
	if l.Lab, err = lab.Open(ctx); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			l.Close()
		}
	}()
	if err := l.start(ctx); err != nil {
		return nil, err
	}
	for i, c := range Crossings() {
		g, err := l.Lab.Guest(c.VM)
		if err != nil {
			return nil, err
		}
		l.Guests[c.VM] = g
		if err := l.hosts[c.From].Restore(ctx, g); err != nil {
			return nil, err
		}
		if err := g.Memory(ctx, o.Fill[i], o.Dirty); err != nil {
			return nil, err
		}
	}
	return l, l.seen(ctx)
}

// Close ends everything.
func (l *Links) Close() {
	_ = l.feature.Stop(context.Background()) // the hosts end with the lab
	l.Lab.Close()
}

// start runs the plugin as core would, and the hosts with the credentials that it gives them.
func (l *Links) start(ctx context.Context) error {
	dir := filepath.Join(l.Lab.Dir, "manager")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	// Hosts need credentials before they have an address, and the plugin knows hosts by addresses.
	addresses := map[string]string{Alpha: "127.0.0.1:1", Beta: "127.0.0.1:2", Gamma: "127.0.0.1:3", Delta: "127.0.0.1:4"}
	if err := l.configure(ctx, addresses); err != nil {
		return err
	}
	err := l.feature.Start(ctx, &plugin.Session{
		Epoch: 1, Host: newState(), Handles: map[string]plugin.Handle{"state": {ID: dir}}, Log: l.o.Log,
		Report: func(plugin.Event) {
			select {
			case l.woken <- struct{}{}:
			default:
			}
		},
	})
	if err != nil {
		return err
	}
	for _, name := range []string{Alpha, Beta, Gamma, Delta} {
		var made api.EnrollReply
		if err := l.invoke(ctx, api.MethodEnroll, api.HostRequest{Name: name}, &made); err != nil {
			return err
		}
		h, err := l.Lab.Host(ctx, name, lab.HostOptions{Identity: []byte(made.Bundle), Transcript: l.Meter.line})
		if err != nil {
			return err
		}
		l.hosts[name], addresses[name] = h, h.Address
	}
	return l.configure(ctx, addresses)
}

func (l *Links) configure(ctx context.Context, addresses map[string]string) error {
	host := func(name string) map[string]any { return map[string]any{"name": name, "vmhost": addresses[name]} }
	link := func(name string, hosts ...string) map[string]any {
		return map[string]any{"name": name, "capacity": l.o.Budget, "hosts": hosts}
	}
	template := func(name string, vms ...string) map[string]any {
		return map[string]any{"version": 1, "name": name, "select": map[string]any{"vms": vms}, "place": map[string]any{"hosts": []string{Beta, Gamma}}}
	}
	text, err := json.Marshal(map[string]any{
		"hosts": []any{host(Alpha), host(Beta), host(Gamma), host(Delta)}, "at_once": 3,
		"schedule":  map[string]any{"links": []any{link(left, Beta), link(right, Gamma, Delta)}},
		"templates": []any{template(TemplateAll, "vm*"), template(TemplatePair, "vm1", "vm2")},
	})
	if err != nil {
		return err
	}
	section := plugin.Section{JSON: text}
	if v := l.feature.Validate(ctx, section); v.Err() != nil {
		return v.Err()
	}
	return l.feature.Configure(ctx, section)
}

func (l *Links) invoke(ctx context.Context, method string, request, reply any) error {
	return invoke(ctx, l.feature.(plugin.Invoker), method, request, reply)
}

// until waits for something that the plugin shows.
func (l *Links) until(ctx context.Context, what string, is func() (bool, error)) error {
	for {
		ok, err := is()
		if ok || err != nil {
			return err
		}
		select {
		case <-l.woken:
		case <-ctx.Done():
			return fmt.Errorf("%s: %w", what, context.Cause(ctx))
		}
	}
}

// seen waits until the plugin has found all guests.
func (l *Links) seen(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, soon)
	defer cancel()
	return l.until(ctx, "see all guests", func() (bool, error) {
		var r api.VMsReply
		err := l.invoke(ctx, api.MethodVMs, nil, &r)
		return len(r.VMs) == len(Crossings()), err
	})
}

// Peak is the most bytes that a link carried in any second since the meter was reset, as part of its budget.
func (l *Links) Peak() (most float64) {
	for _, link := range []string{left, right} {
		var vms []string
		for _, c := range Crossings() {
			if slices.Contains(c.Links, link) {
				vms = append(vms, c.VM)
			}
		}
		most = max(most, l.Meter.Peak(vms...)/float64(l.o.Budget))
	}
	return most
}

// Proof holds every guest against what must be: it ran once at a time, and no page is lost. It goes on writing afterwards.
func (l *Links) Proof(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, soon)
	defer cancel()
	var errs []error
	for i, c := range Crossings() {
		g := l.Guests[c.VM]
		_, err := g.VerifyMemory(ctx)
		errs = append(errs, err, g.Runners.Err(), g.Memory(ctx, l.o.Fill[i], l.o.Dirty))
	}
	return errors.Join(errs...)
}
