package schedule

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Window is a maintenance window that comes back every week on some days, in UTC.
type Window struct {
	Name string `json:"name" config:"required" jsonschema:"description=name that moves refer to"`
	Days string `json:"days,omitempty" jsonschema:"description=days of the week on which it opens, as mon-fri or sat,sun; every day by default"`
	From string `json:"from" config:"required" jsonschema:"description=when it opens, as 22:00 (UTC)"`
	To   string `json:"to" config:"required" jsonschema:"description=when it closes, as 04:00 (UTC); on the next day if not later than from"`
}

// opening is a Window that was understood.
type opening struct {
	name string
	days [7]bool
	from time.Duration // since midnight
	long time.Duration
}

var dayNames = []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}

func (w Window) parse() (o opening, err error) {
	o.name = w.Name
	if o.from, err = clock(w.From); err != nil {
		return o, fmt.Errorf("from: %w", err)
	}
	to, err := clock(w.To)
	if err != nil {
		return o, fmt.Errorf("to: %w", err)
	}
	if o.long = to - o.from; o.long <= 0 {
		o.long += 24 * time.Hour
	}
	if w.Days == "" {
		o.days = [7]bool{true, true, true, true, true, true, true}
		return o, nil
	}
	for part := range strings.SplitSeq(w.Days, ",") {
		first, last, isRange := strings.Cut(strings.TrimSpace(part), "-")
		a := slices.Index(dayNames, strings.ToLower(first))
		b := a
		if isRange {
			b = slices.Index(dayNames, strings.ToLower(last))
		}
		if a < 0 || b < 0 {
			return o, fmt.Errorf("days: %q is not a day or a range of days, as mon-fri", part)
		}
		for d := a; ; d = (d + 1) % 7 { // fri-mon goes over the weekend
			if o.days[d] = true; d == b {
				break
			}
		}
	}
	return o, nil
}

func clock(s string) (time.Duration, error) {
	h, m, ok := strings.Cut(s, ":")
	hours, err1 := strconv.ParseUint(h, 10, 8)
	minutes, err2 := strconv.ParseUint(m, 10, 8)
	if !ok || err1 != nil || err2 != nil || len(m) != 2 || hours > 23 || minutes > 59 {
		return 0, fmt.Errorf("%q is not a time of day, as 22:00", s)
	}
	return time.Duration(hours)*time.Hour + time.Duration(minutes)*time.Minute, nil
}

// span is a time during which a job may be worked on.
type span struct{ from, to time.Time }

// spans are the parts of [from, to) in which an opening is open, at most a month of them.
func (o opening) spans(from, to time.Time) (list []span) {
	day := from.UTC().Truncate(24 * time.Hour).Add(-24 * time.Hour) // one that opened yesterday may still be
	for range 32 {
		if !day.Before(to) {
			break
		}
		if o.days[day.Weekday()] {
			s := span{day.Add(o.from), day.Add(o.from + o.long)}
			if s.from.Before(from) {
				s.from = from
			}
			if s.to.After(to) {
				s.to = to
			}
			if s.from.Before(s.to) {
				list = append(list, s)
			}
		}
		day = day.Add(24 * time.Hour)
	}
	return list
}

// allowed are the spans in which a job may run: the union of its windows.
func allowed(openings []opening, names []string, from, to time.Time) (list []span) {
	if len(names) == 0 {
		return []span{{from, to}}
	}
	for _, o := range openings {
		if slices.Contains(names, o.name) {
			list = append(list, o.spans(from, to)...)
		}
	}
	slices.SortFunc(list, func(a, b span) int { return a.from.Compare(b.from) })
	merged := list[:0]
	for _, s := range list {
		if n := len(merged); n > 0 && !s.from.After(merged[n-1].to) {
			if s.to.After(merged[n-1].to) {
				merged[n-1].to = s.to
			}
			continue
		}
		merged = append(merged, s)
	}
	return merged
}
