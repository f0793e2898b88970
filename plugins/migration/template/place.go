package template

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/ratchetos/ratchet/plugins/migration/model"
	"github.com/ratchetos/ratchet/plugins/migration/plan"
)

// book keeps what is left of each host while VMs are given to them, so that the last one of a template finds no room that
// the first one has taken.
type book struct {
	t       model.Template
	inv     Inventory
	hosts   []model.Host // free amounts less what is kept free and what was given
	byName  map[string]model.Host
	given   map[string]int
	settled map[string][]plan.Resident
}

func newBook(t model.Template, inv Inventory) *book {
	b := &book{t: t, inv: inv, byName: map[string]model.Host{}, given: map[string]int{}, settled: map[string][]plan.Resident{}}
	for _, h := range inv.Hosts {
		b.byName[h.Name] = h
		if len(t.Place.Hosts) > 0 && !matchAny(t.Place.Hosts, h.Name) {
			continue
		}
		h.FreeVCPUs -= t.Place.KeepVCPUs
		h.FreeMemory -= min(h.FreeMemory, uint64(t.Place.KeepMemory))
		b.hosts = append(b.hosts, h)
	}
	for _, vm := range inv.VMs {
		b.settled[vm.Host] = append(b.settled[vm.Host], plan.Resident{VM: vm.Name, UUID: vm.Shape.UUID})
	}
	return b
}

// place gives a VM to the first host, in the order of the policy, that can take it.
func (b *book) place(vm VM, id string) (plan.Plan, *Refused) {
	refused := &Refused{VM: vm.Name, From: vm.Host}
	source, known := b.byName[vm.Host]
	if !known {
		refused.Refusals = []plan.Refusal{{
			Code: "source-away", What: fmt.Sprintf("nothing is known of %s, where %s is", vm.Host, vm.Name),
			Why: "a move needs both hosts", Do: "look at it with `ratchetctl migrate hosts`",
		}}
		return plan.Plan{}, refused
	}
	for _, i := range b.order(vm.Host) {
		h := &b.hosts[i]
		refused.Tried++
		p, reasons := plan.Make(plan.Input{
			ID: id, Shape: vm.Shape, Type: b.t.Type, Source: source, Target: *h, Guest: vm.Guest, Goal: b.t.Goal,
			Hooks: b.t.Hooks, Residents: b.settled[h.Name], Volumes: b.inv.Volumes,
		})
		if len(reasons) == 0 {
			h.FreeVCPUs -= p.After.VCPUs
			h.FreeMemory -= p.After.Memory.Total()
			b.given[h.Name]++
			b.settled[h.Name] = append(b.settled[h.Name], plan.Resident{VM: vm.Name, UUID: vm.Shape.UUID})
			return p, nil
		}
		if refused.Host == "" || len(reasons) < len(refused.Refusals) {
			refused.Host, refused.Refusals = h.Name, reasons
		}
	}
	if refused.Tried == 0 {
		refused.Refusals = []plan.Refusal{b.nowhere()}
	}
	return plan.Plan{}, refused
}

// order lists the hosts that may take a VM from a host, the best one first. Hosts alike go by their names.
func (b *book) order(from string) []int {
	var list []int
	for i, h := range b.hosts {
		if full := b.t.Place.MaxPerHost > 0 && b.given[h.Name] >= b.t.Place.MaxPerHost; h.Name != from && !full {
			list = append(list, i)
		}
	}
	slices.SortFunc(list, func(i, j int) int {
		x, y := b.hosts[i], b.hosts[j]
		emptier := cmp.Compare(y.FreeMemory, x.FreeMemory)
		if b.t.Place.Policy == "pack" {
			emptier = -emptier
		}
		return cmp.Or(emptier, cmp.Compare(x.Name, y.Name))
	})
	return list
}

func (b *book) nowhere() plan.Refusal {
	r := plan.Refusal{
		Code: "no-host", Why: "a VM goes to another host than its own, which the template allows and which has taken fewer than it may",
		Do: "widen place.hosts or raise place.max_per_host",
	}
	switch {
	case len(b.hosts) == 0 && len(b.t.Place.Hosts) > 0:
		r.What = fmt.Sprintf("none of %d hosts is called %s", len(b.inv.Hosts), strings.Join(b.t.Place.Hosts, " or "))
	case b.t.Place.MaxPerHost > 0:
		r.What = fmt.Sprintf("each host takes at most %d", b.t.Place.MaxPerHost)
	default:
		r.What = "there is no other host"
	}
	return r
}
