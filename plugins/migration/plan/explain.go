package plan

import (
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/ratchetos/ratchet/core/config/strict"
	"github.com/ratchetos/ratchet/plugins/migration/model"
)

// Text shows a plan to the operator who is to say yes to it: what changes, each step with the gap it may cause, and what
// to know before.
func (p Plan) Text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "plan %s: %s from %s to %s\n", p.ID, p.VM, p.From, p.To)
	fmt.Fprintf(&b, "  now     %s\n", outline(p.Before))
	if p.During.Digest() != p.Before.Digest() {
		fmt.Fprintf(&b, "  crosses %s\n", outline(p.During))
	}
	if p.After.Digest() != p.During.Digest() {
		fmt.Fprintf(&b, "  then    %s\n", outline(p.After))
	}
	fmt.Fprintf(&b, "  goal    %s\n\n", goal(p.Goal))

	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "  #\tSTEP\tAT\tGAP\tWHY")
	for i, s := range p.Steps {
		at := string(s.Side)
		if s.Kind == Move {
			at = "both"
		}
		fmt.Fprintf(t, "  %d\t%s\t%s\t%s\t%s\n", i+1, s.Title(), at, gap(s.Gap), s.Why)
	}
	t.Flush()
	longest, sum := p.Gaps()
	fmt.Fprintf(&b, "\n  gaps: %s at a time, %s in all\n", gap(longest), gap(sum))
	for _, w := range p.Warnings {
		fmt.Fprintf(&b, "  note: %s\n", w)
	}
	return b.String()
}

// Gaps are the longest gap that a plan allows for, and the sum of all.
func (p Plan) Gaps() (longest, sum time.Duration) {
	for _, s := range p.Steps {
		longest, sum = max(longest, s.Gap), sum+s.Gap
	}
	return longest, sum
}

// RefusalText shows why a VM cannot be moved, every reason with what can be done.
func RefusalText(vm, from, to string, list []Refusal) string {
	var b strings.Builder
	reasons := "1 reason"
	if len(list) != 1 {
		reasons = fmt.Sprintf("%d reasons", len(list))
	}
	fmt.Fprintf(&b, "%s cannot go from %s to %s: %s\n", vm, from, to, reasons)
	for i, r := range list {
		fmt.Fprintf(&b, "  %d. %s (%s)\n     why: %s\n     do:  %s\n", i+1, r.What, r.Code, r.Why, r.Do)
	}
	return b.String()
}

// Title is what a step does, in a few words.
func (s Step) Title() string {
	switch {
	case s.Kind == Augment:
		return "enable in the guest: " + strings.Join(s.Capabilities, ", ")
	case s.Kind == HookBefore || s.Kind == HookAfter:
		return "run the guest's hook " + s.Hook
	case s.Kind == Move && s.CPU != nil:
		return fmt.Sprintf("move, CPU %s becomes %s%s", s.CPU.From.Model, s.CPU.To.Model, s.atOnce())
	case s.Kind == Move:
		return "move" + s.atOnce()
	case s.VCPUs != nil:
		return fmt.Sprintf("vCPUs %d to %d (%s)", s.VCPUs.From, s.VCPUs.To, s.Device)
	case s.Memory != nil:
		return fmt.Sprintf("memory of %s %s to %s", s.Device, size(s.Memory.From), size(s.Memory.To))
	case s.DIMM != nil && s.Kind == GrowMemory:
		return fmt.Sprintf("plug %s of memory (%s)", size(s.DIMM.Size), s.Device)
	case s.DIMM != nil:
		return fmt.Sprintf("unplug %s of memory (%s)", size(s.DIMM.Size), s.Device)
	case s.NIC != nil:
		return fmt.Sprintf("card %s %s becomes %s %s", s.NIC.From.ID, s.NIC.From.Model, s.NIC.To.ID, s.NIC.To.Model)
	case s.Disk != nil:
		return fmt.Sprintf("disk %s %s becomes %s %s", s.Disk.From.ID, s.Disk.From.Model, s.Disk.To.ID, s.Disk.To.Model)
	}
	return string(s.Kind)
}

func (s Step) atOnce() string {
	if s.AtOnce {
		return ", running there at once"
	}
	return ""
}

// outline is a shape in one line.
func outline(s model.Shape) string {
	parts := []string{
		fmt.Sprintf("%d of %d vCPUs", s.VCPUs, s.MaxVCPUs), s.CPU.Model,
		fmt.Sprintf("%s of %s", size(s.Memory.Total()), size(max(s.Memory.Max, s.Memory.Boot))),
	}
	for _, n := range s.NICs {
		parts = append(parts, fmt.Sprintf("%s %s on %s", n.ID, n.Model, n.Network))
	}
	for _, d := range s.Disks {
		where := "local"
		if d.Source.Volume != nil {
			where = "volume " + d.Source.Volume.Name
		}
		parts = append(parts, fmt.Sprintf("%s %s %s %s", d.ID, d.Model, size(d.Size), where))
	}
	return strings.Join(parts, ", ")
}

func goal(g model.Goal) string {
	text := fmt.Sprintf("gap of at most %v", g.Gap())
	if g.Deadline > 0 {
		text += fmt.Sprintf(", done within %v", g.Deadline)
	}
	if g.Bandwidth > 0 {
		text += fmt.Sprintf(", at most %v a second", g.Bandwidth)
	}
	if g.PostCopyBandwidth > 0 {
		text += fmt.Sprintf(" (%v for the rest of a post-copy)", g.PostCopyBandwidth)
	}
	for _, may := range []struct {
		allowed bool
		what    string
	}{{g.AllowThrottle, "throttling"}, {g.AllowPostCopy, "post-copy"}, {g.AllowPlain, "no TLS"}} {
		if may.allowed {
			text += ", " + may.what + " allowed"
		}
	}
	return text
}

func gap(d time.Duration) string {
	if d == 0 {
		return "none"
	}
	return "≤ " + strict.Duration(d).String()
}
