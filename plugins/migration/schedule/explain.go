package schedule

import (
	"fmt"
	"strings"
	"time"
)

// at writes a time for people; plans are about the next days.
func at(t time.Time) string {
	if t = t.UTC(); t.Second() == 0 {
		return t.Format("Mon 15:04")
	}
	return t.Format("Mon 15:04:05")
}

// explain says why a slot was chosen: what stood against an earlier one.
func (p *placer) explain(j Job, chosen, shortest offer, offers []offer, spans []span) (why []string) {
	first := offers[0]
	for _, o := range offers {
		if o.start.Before(first.start) {
			first = o
		}
	}
	names := p.names(chosen.route)
	switch {
	case len(j.Windows) > 0 && chosen.start.Equal(spans[0].from) && chosen.start.After(p.now):
		why = append(why, fmt.Sprintf("starts when its window opens, %s", at(chosen.start)))
	case !j.Earliest.IsZero() && chosen.start.Equal(j.Earliest):
		why = append(why, fmt.Sprintf("starts at %s, as asked", at(chosen.start)))
	case chosen.start.Equal(p.now):
		why = append(why, p.atOnce(chosen, shortest, names))
	default:
		if job := p.behind(chosen); job != "" {
			why = append(why, fmt.Sprintf("starts at %s, when %s has left %s", at(chosen.start), job, names))
		}
		if first.start.Before(chosen.start) && first.verdict.Total > chosen.verdict.Total {
			why = append(why, fmt.Sprintf("%s for the transfer at %s, against %s at %s%s", short(chosen.verdict.Total), at(chosen.start), short(first.verdict.Total), at(first.start), p.loads(chosen.route, first.start, chosen.start)))
		} else if !first.start.Equal(p.now) && first.start.Equal(chosen.start) {
			why = append(why, fmt.Sprintf("before %s it could not be done as allowed", at(chosen.start)))
		}
	}
	return append(why, chosen.verdict.Why...)
}

func (p *placer) atOnce(chosen, shortest offer, names string) string {
	if len(chosen.route) == 0 {
		return "starts at once: no link is watched on its way"
	}
	var blind []string
	for _, i := range chosen.route {
		if l := p.lanes[i]; !l.Skilled && len(l.Expected) > 0 {
			blind = append(blind, l.Name)
		}
	}
	if len(blind) > 0 {
		return fmt.Sprintf("starts at once: waiting by the forecast of %s would not have paid lately", strings.Join(blind, ", "))
	}
	if saved := 1 - shortest.verdict.Total.Seconds()/chosen.verdict.Total.Seconds(); saved > .005 {
		return fmt.Sprintf("starts at once: waiting until %s would save %.0f %% of the transfer, and less than %.0f %% is not worth it", at(shortest.start), 100*saved, 100*p.patience(chosen.route))
	}
	return fmt.Sprintf("starts at once: no later start on %s is shorter", names)
}

// behind is the job whose end lets an offer start, "" if it is none's.
func (p *placer) behind(o offer) string {
	for _, l := range o.route {
		for _, b := range p.bookings[l] {
			if b.End.Equal(o.start) {
				return b.Job
			}
		}
	}
	return ""
}

// loads tells what is free on a route at two times.
func (p *placer) loads(route []int, now, then time.Time) string {
	for _, i := range route {
		l := &p.lanes[i]
		if len(l.Expected) == 0 || l.Budget == 0 {
			continue
		}
		a, b := l.free(l.Expected, now), l.free(l.Expected, then)
		if b > a {
			return fmt.Sprintf(": %s has %.0f %% of its budget free then, %.0f %% before", l.Name, 100*b/l.Budget, 100*a/l.Budget)
		}
	}
	return ""
}

func (p *placer) names(route []int) string {
	var list []string
	for _, i := range route {
		list = append(list, p.lanes[i].Name)
	}
	return strings.Join(list, " and ")
}
