package template

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ratchetos/ratchet/plugins/migration/model"
	"github.com/ratchetos/ratchet/plugins/migration/plan"
)

// Inventory is what the manager knows when a template is applied.
type Inventory struct {
	VMs   []VM
	Hosts []model.Host
	// Volumes are the sizes of the gateway's volumes by name; nil when it was not asked.
	Volumes map[string]uint64
}

// Expansion is a template applied to an inventory.
type Expansion struct {
	Template string `json:"template"`
	Selected int    `json:"selected"`
	Known    int    `json:"known"` // VMs there are
	Waves    []Wave `json:"waves,omitempty"`
	// Refused cannot be moved, Done need not be.
	Refused  []Refused `json:"refused,omitempty"`
	Done     []string  `json:"done,omitempty"`
	Warnings []string  `json:"warnings,omitempty"`
}

// Wave is what is moved at one time.
type Wave struct {
	Canary bool        `json:"canary,omitempty"`
	Moves  []plan.Plan `json:"moves"`
}

// Refused is a VM that cannot be moved. Host is the target that had least against it, "" when there is none at all.
type Refused struct {
	VM       string         `json:"vm"`
	From     string         `json:"from"`
	Host     string         `json:"host,omitempty"`
	Tried    int            `json:"tried"` // hosts
	Refusals []plan.Refusal `json:"refusals"`
}

// defaultWave is how many VMs are in a wave when the template does not say.
const defaultWave = 4

// Expand applies a template. run names this application of it: the plans' IDs begin with it. A template that selects
// nothing is an error, with what each of its conditions leaves; that some VMs are refused is not.
func Expand(t model.Template, inv Inventory, run string) (Expansion, error) {
	e := Expansion{Template: t.Name, Known: len(inv.VMs)}
	vms := Select(t.Select, inv.VMs)
	e.Selected = len(vms)
	switch {
	case len(vms) == 0:
		return e, fmt.Errorf("expand template %s: it selects none of %d VMs (%s); look at `ratchetctl migrate vms`", t.Name, len(inv.VMs), leaves(t.Select, inv.VMs))
	case len(vms) == len(inv.VMs) && len(vms) > 1 && !t.Select.All:
		e.Warnings = append(e.Warnings, fmt.Sprintf("the selector means all %d VMs there are", len(vms)))
	}
	b := newBook(t, inv)
	var moves []plan.Plan
	for _, vm := range vms {
		if len(t.Place.Hosts) > 0 && matchAny(t.Place.Hosts, vm.Host) && plan.Has(vm.Shape, t.Type) {
			e.Done = append(e.Done, vm.Name)
			continue
		}
		p, refused := b.place(vm, fmt.Sprintf("%s-%d", run, len(moves)+1))
		if refused != nil {
			e.Refused = append(e.Refused, *refused)
			continue
		}
		moves = append(moves, p)
	}
	e.Waves = waves(t.Waves, moves)
	return e, nil
}

// leaves tells for each condition how many VMs meet it alone: the one that meets none is the mistake.
func leaves(s model.Selector, vms []VM) string {
	var parts []string
	for _, c := range []struct {
		name string
		only model.Selector
		used bool
	}{
		{"vms", model.Selector{VMs: s.VMs}, len(s.VMs) > 0},
		{"not in except", model.Selector{Except: s.Except}, len(s.Except) > 0},
		{"hosts", model.Selector{Hosts: s.Hosts}, len(s.Hosts) > 0},
		{"labels", model.Selector{Labels: s.Labels}, len(s.Labels) > 0},
		{"types", model.Selector{Types: s.Types}, len(s.Types) > 0},
		{"capabilities", model.Selector{Capabilities: s.Capabilities}, len(s.Capabilities) > 0},
	} {
		if c.used {
			parts = append(parts, fmt.Sprintf("%s: %d", c.name, len(Select(c.only, vms))))
		}
	}
	if len(parts) == 0 {
		return "there are none"
	}
	return strings.Join(parts, ", ")
}

func waves(w model.Waves, moves []plan.Plan) []Wave {
	var list []Wave
	if n := min(w.Canary, len(moves)); n > 0 {
		list = append(list, Wave{Canary: true, Moves: moves[:n]})
		moves = moves[n:]
	}
	n := w.Size
	if n <= 0 {
		n = defaultWave
	}
	for chunk := range slices.Chunk(moves, n) {
		list = append(list, Wave{Moves: chunk})
	}
	return list
}

// Moves are all plans of an expansion, in the order of their waves.
func (e Expansion) Moves() []plan.Plan {
	var list []plan.Plan
	for _, w := range e.Waves {
		list = append(list, w.Moves...)
	}
	return list
}

// Text shows an expansion to the operator who is to say yes to it.
func (e Expansion) Text() string {
	var b strings.Builder
	moves := e.Moves()
	fmt.Fprintf(&b, "template %s: %d of %d VMs selected, %d to move, %d there already, %d refused\n",
		e.Template, e.Selected, e.Known, len(moves), len(e.Done), len(e.Refused))
	for i, w := range e.Waves {
		kind := ""
		if w.Canary {
			kind = ", canary: the others follow only if all of it arrives"
		}
		fmt.Fprintf(&b, "\nwave %d of %d%s\n", i+1, len(e.Waves), kind)
		for _, p := range w.Moves {
			longest, _ := p.Gaps()
			fmt.Fprintf(&b, "  %s from %s to %s, gap of at most %v\n", p.VM, p.From, p.To, longest.Round(time.Millisecond))
			for _, s := range p.Steps {
				if s.Kind != plan.Move || s.CPU != nil {
					fmt.Fprintf(&b, "    %s\n", s.Title())
				}
			}
			for _, note := range p.Warnings {
				fmt.Fprintf(&b, "    note: %s\n", note)
			}
		}
	}
	if len(e.Done) > 0 {
		fmt.Fprintf(&b, "\nthere already: %s\n", strings.Join(e.Done, ", "))
	}
	for _, r := range e.Refused {
		host := r.Host
		if host == "" {
			host = "any host"
		} else if r.Tried > 1 {
			host += fmt.Sprintf(", the best of %d", r.Tried)
		}
		fmt.Fprintf(&b, "\n%s", plan.RefusalText(r.VM, r.From, host, r.Refusals))
	}
	for _, w := range e.Warnings {
		fmt.Fprintf(&b, "\nnote: %s\n", w)
	}
	return b.String()
}
