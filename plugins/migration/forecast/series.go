package forecast

import (
	"math"
	"time"
)

// Series turns samples, which come when they come, into slots of equal length: the mean of what fell into each, NaN where
// nothing did. It is told the time with each sample and does not believe every one of them.
type Series struct {
	step time.Duration

	open  int64 // the slot that samples fall into now
	sum   float64
	count int
	begun bool

	// A sample far from where the last one was is either a wrong clock or the right one at last: which it is shows
	// when enough of them agree.
	strays int
	stray  int64
}

const (
	// strays that agree before they are believed.
	enoughStrays = 8
	// farAhead is a gap that is believed at once.
	farAhead = 24 * time.Hour
)

// NewSeries returns one whose slots are step long.
func NewSeries(step time.Duration) *Series { return &Series{step: step} }

// Slot is the number of the slot that at falls into.
func (s *Series) Slot(at time.Time) int64 {
	n := at.UnixNano() / int64(s.step)
	if at.UnixNano() < 0 {
		n--
	}
	return n
}

// Time is when slot n begins.
func (s *Series) Time(n int64) time.Time { return time.Unix(0, n*int64(s.step)).UTC() }

// Closed is a slot that gets no more samples.
type Closed struct {
	Slot  int64
	Value float64
	// Restart means that time has jumped: what is held of this slot and later ones was measured by a wrong clock, and
	// what lies between the last slot and this one is unknown.
	Restart bool
}

// Add takes a sample. It returns the slot that the sample has closed, if it did; the caller fills a gap before it. What is not
// a number is not a sample.
func (s *Series) Add(at time.Time, value float64) (c Closed, ok bool) {
	if math.IsNaN(value) || math.IsInf(value, 0) {
		return Closed{}, false
	}
	n := s.Slot(at)
	if !s.begun {
		s.begin(n, value)
		return Closed{}, false
	}
	if n < s.open || n > s.open+int64(farAhead/s.step) {
		if !s.believe(n) {
			return Closed{}, false
		}
		c := Closed{Slot: n, Value: math.NaN(), Restart: true}
		s.begin(n+1, value)
		s.count, s.sum = 0, 0
		return c, true
	}
	s.strays = 0
	if n == s.open {
		s.sum += value
		s.count++
		return Closed{}, false
	}
	c = Closed{Slot: s.open, Value: s.sum / float64(s.count)} // 0 samples after a restart: NaN
	s.begin(n, value)
	return c, true
}

func (s *Series) begin(n int64, value float64) {
	s.begun, s.open, s.sum, s.count, s.strays = true, n, value, 1, 0
}

// believe counts samples that agree with each other about the time and not with the ones before.
func (s *Series) believe(n int64) bool {
	if s.strays == 0 || n < s.stray || n > s.stray+int64(farAhead/s.step) {
		s.strays = 0
	}
	s.strays++
	s.stray = n
	return s.strays >= enoughStrays
}

// Close closes the open slot if it is over at now.
func (s *Series) Close(now time.Time) (c Closed, ok bool) {
	n := s.Slot(now)
	if !s.begun || n <= s.open || n > s.open+int64(farAhead/s.step) {
		return Closed{}, false
	}
	c = Closed{Slot: s.open, Value: s.sum / float64(s.count)}
	s.open, s.sum, s.count = n, 0, 0
	return c, true
}
