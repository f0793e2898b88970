package supervise

import "time"

// Policy holds the times that a Machine works by. The zero value is the product's policy.
type Policy struct {
	// Spare keeps a second process standing by.
	Spare bool
	// SpareAfter is how long the plugin must have served before a spare is made: at boot
	// the CPU belongs to those that serve.
	SpareAfter time.Duration
	// Burst is how many failures in a row are answered at once; 0 means 3.
	Burst int
	// Base is the delay before the restart after those; it doubles up to Max.
	Base, Max time.Duration
	// ResetAfter is how long a process must have served for its death to count as the first.
	ResetAfter time.Duration
	// StartTimeout bounds the way from spawn to ready.
	StartTimeout time.Duration
	// Silence is the longest pause between two signs of life of a serving process.
	Silence time.Duration
	// Watchdog is the longest pause between two sd_notify pets, once there was one.
	Watchdog time.Duration
	// StopTimeout bounds drain and stop together; what is left then is killed.
	StopTimeout time.Duration
}

// WithDefaults fills in the product's policy.
func (p Policy) WithDefaults() Policy {
	set := func(d *time.Duration, v time.Duration) {
		if *d <= 0 {
			*d = v
		}
	}
	if p.Burst <= 0 {
		p.Burst = 3
	}
	set(&p.Base, 100*time.Millisecond)
	set(&p.Max, 30*time.Second)
	set(&p.SpareAfter, 3*time.Second)
	set(&p.ResetAfter, time.Minute)
	set(&p.StartTimeout, time.Minute)
	set(&p.Silence, 15*time.Second)
	set(&p.Watchdog, 20*time.Second)
	set(&p.StopTimeout, 15*time.Second)
	return p
}

// Delay is the wait before the next try after n failures in a row.
func (p Policy) Delay(n int) time.Duration {
	if n <= p.Burst {
		return 0
	}
	d := p.Base
	for i := p.Burst + 1; i < n && d < p.Max; i++ {
		d *= 2
	}
	return min(d, p.Max)
}
