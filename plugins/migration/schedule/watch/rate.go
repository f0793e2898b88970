package watch

import "time"

// Rate turns what a counter showed into what it grew by in a second. The zero value has seen nothing.
type Rate struct {
	at    time.Time
	value float64
}

// farApart is a time between two looks over which a mean says nothing any more.
const farApart = time.Hour

// Next takes a look at the counter. There is no rate at the first one, after the counter or the clock has gone back, or
// when the last look was long ago.
func (r *Rate) Next(at time.Time, value float64) (perSecond float64, ok bool) {
	last := *r
	*r = Rate{at, value}
	took := at.Sub(last.at)
	if last.at.IsZero() || took <= 0 || took > farApart || value < last.value {
		return 0, false
	}
	return (value - last.value) / took.Seconds(), true
}
