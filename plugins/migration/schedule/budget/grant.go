package budget

import (
	"cmp"
	"slices"
)

// Link is one that transfers share.
type Link struct {
	Name string
	// Rate is what they may use together now, in bytes a second.
	Rate float64
}

// Transfer is one that runs.
type Transfer struct {
	ID       string
	Links    []string
	Priority int
	// Most bounds its rate; 0 is without bound.
	Most float64
	// Sent is how many bytes it has sent since it began.
	Sent uint64
}

// least is the part of a link that all transfers below the highest priority keep together: so much later is the highest done at
// most, and so much is needed that pre-copy and keep-alives of the others go on.
const least = .05

// Grants divides the links. Higher priorities are served first, up to what is kept for lower ones; within one priority the
// rates of all are raised together until a link is full (max-min fairness). A transfer without a link gets its own bound, or 0,
// which is without limit.
func Grants(links []Link, transfers []Transfer) map[string]float64 {
	left := make(map[string]float64, len(links))
	for _, l := range links {
		left[l.Name] = l.Rate
	}
	out := make(map[string]float64, len(transfers))
	order := slices.Clone(transfers)
	slices.SortStableFunc(order, func(a, b Transfer) int {
		return cmp.Or(-cmp.Compare(a.Priority, b.Priority), cmp.Compare(a.ID, b.ID))
	})
	for len(order) > 0 {
		n := 1
		for n < len(order) && order[n].Priority == order[0].Priority {
			n++
		}
		kept := keep(links, order[n:])
		for name, rate := range kept {
			left[name] -= rate
		}
		fill(left, order[:n], out)
		for name, rate := range kept {
			left[name] += rate
		}
		order = order[n:]
	}
	return out
}

// keep is what is held back on each link for the transfers of lower priority that go over it.
func keep(links []Link, lower []Transfer) map[string]float64 {
	kept := make(map[string]float64)
	for _, l := range links {
		if slices.ContainsFunc(lower, func(t Transfer) bool { return slices.Contains(t.Links, l.Name) }) {
			kept[l.Name] = least * l.Rate
		}
	}
	return kept
}

// fill raises the rates of all transfers alike until each is at its bound or on a full link.
func fill(left map[string]float64, transfers []Transfer, out map[string]float64) {
	var active []Transfer
	for _, t := range transfers {
		out[t.ID] = 0
		if slices.ContainsFunc(t.Links, func(name string) bool { _, ok := left[name]; return ok }) {
			active = append(active, t)
		} else {
			out[t.ID] = t.Most
		}
	}
	for len(active) > 0 {
		rise := -1.0
		note := func(v float64) {
			if rise < 0 || v < rise {
				rise = max(0, v)
			}
		}
		users := make(map[string]float64)
		for _, t := range active {
			for _, name := range t.Links {
				users[name]++
			}
			if t.Most > 0 {
				note(t.Most - out[t.ID])
			}
		}
		for name, n := range users {
			if rate, ok := left[name]; ok {
				note(rate / n)
			}
		}
		for _, t := range active {
			out[t.ID] += rise
			for _, name := range t.Links {
				if _, ok := left[name]; ok {
					left[name] -= rise
				}
			}
		}
		// Each round fills a link or a transfer, so it ends.
		const nothing = 1 // byte a second
		active = slices.DeleteFunc(active, func(t Transfer) bool {
			return t.Most > 0 && t.Most-out[t.ID] < nothing || slices.ContainsFunc(t.Links, func(name string) bool {
				rate, ok := left[name]
				return ok && rate < nothing
			})
		})
	}
}
