package upload

import (
	"fmt"
	"math"
	"time"
)

// Clock is a time of day in minutes from midnight.
type Clock int

// ParseClock reads a time of day, as 08:30. 24:00 is the end of the day.
func ParseClock(s string) (Clock, error) {
	if s == "24:00" {
		return 24 * 60, nil
	}
	t, err := time.Parse("15:04", s)
	if err != nil || len(s) != 5 {
		return 0, fmt.Errorf("time of day %q: write it as 08:30", s)
	}
	return Clock(t.Hour()*60 + t.Minute()), nil
}

func (c Clock) String() string { return fmt.Sprintf("%02d:%02d", c/60, c%60) }

// Window bounds the rate of uploads between two times of day; From after To goes past midnight, From equal to
// To is the whole day.
type Window struct {
	From, To Clock
	Rate     int64 // bytes per second; 0 means that nothing is uploaded
}

func (w Window) covers(c Clock) bool {
	if w.From < w.To {
		return w.From <= c && c < w.To
	}
	return c >= w.From || c < w.To
}

// Schedule says how fast uploads may go, by the local time of the instants given to it. The first window that
// covers a minute counts; outside all of them there is no limit.
type Schedule []Window

// Rate at t in bytes per second; limited is false when there is no limit.
func (s Schedule) Rate(t time.Time) (rate int64, limited bool) {
	for _, w := range s {
		if w.covers(Clock(t.Hour()*60 + t.Minute())) {
			return w.Rate, true
		}
	}
	return 0, false
}

// horizon bounds how far ahead a schedule is looked at: a day has at most 25 hours.
const horizon = 25 * 60

// Open is the first instant from t on at which something may be uploaded; in a day's time when the
// schedule never says so.
func (s Schedule) Open(t time.Time) time.Time {
	for range horizon {
		if rate, limited := s.Rate(t); !limited || rate > 0 {
			return t
		}
		t = nextMinute(t)
	}
	return t
}

// Done is when n bytes are through that are begun at t.
func (s Schedule) Done(t time.Time, n int64) time.Time {
	left := float64(n)
	for range horizon {
		rate, limited := s.Rate(t)
		if !limited || left <= 0 {
			break
		}
		// The rate can change with every minute.
		next := nextMinute(t)
		if rate > 0 {
			if need := time.Duration(left / float64(rate) * float64(time.Second)); t.Add(need).Before(next) {
				return t.Add(need)
			}
			left -= float64(rate) * next.Sub(t).Seconds()
		}
		t = next
	}
	return t
}

// Through is how many bytes get through between two instants, no more than a day apart or so; +Inf when some of that
// time has no limit.
func (s Schedule) Through(from, to time.Time) float64 {
	n := 0.0
	for range horizon {
		if !from.Before(to) {
			break
		}
		rate, limited := s.Rate(from)
		if !limited {
			return math.Inf(1)
		}
		next := nextMinute(from)
		if next.After(to) {
			next = to
		}
		n += float64(rate) * next.Sub(from).Seconds()
		from = next
	}
	return n
}

func nextMinute(t time.Time) time.Time { return t.Truncate(time.Minute).Add(time.Minute) }
