package clock

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/beevik/ntp"
)

// Config of the clock. The zero value keeps the floor and asks nobody.
type Config struct {
	// Servers are host names or addresses, with ":port" where it is not 123.
	Servers []string
	// More is asked before each round for further servers, such as those a DHCP lease names. May be nil.
	More func() []string
	// Floor is a time that is certainly in the past: when the image was built.
	Floor time.Time
	// Network delays the first round until it is closed. nil starts at once.
	Network <-chan struct{}
	// System is the clock to set, nil means this machine's.
	System System
	Log    *slog.Logger // nil discards
}

// System is the clock that is set.
type System interface {
	Now() time.Time
	// RTC reads the real time clock.
	RTC() (time.Time, error)
	// Step sets the time.
	Step(to time.Time) error
	// Slew makes the clock drift by offset without a jump.
	Slew(offset time.Duration) error
}

// Status of the clock.
type Status struct {
	Synced  bool          `json:"synced"`
	Last    time.Time     `json:"last,omitzero"` // when it was last compared with servers
	Offset  time.Duration `json:"offset"`        // as found then
	Servers []string      `json:"servers,omitempty"`
	Problem string        `json:"problem,omitempty"`
}

// Clock is the running care for the time.
type Clock struct {
	config Config
	synced chan struct{}
	done   chan struct{}
	cancel context.CancelFunc

	mu     sync.Mutex
	status Status
}

// maxServers bounds a round; more do not make it better.
const maxServers = 8

// queryTime bounds one question to one server.
const queryTime = 3 * time.Second

// tolerance is how far servers may be apart for no good reason.
const tolerance = 20 * time.Millisecond

// Start raises the clock to the floor if it is below, and begins to ask the servers. It does
// not wait for any of them.
func Start(ctx context.Context, c Config) *Clock {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.System == nil {
		c.System = system{}
	}
	ctx, cancel := context.WithCancel(ctx)
	k := &Clock{config: c, synced: make(chan struct{}), done: make(chan struct{}), cancel: cancel}
	if err := k.raise(); err != nil {
		k.note(Status{Problem: err.Error()})
	}
	go k.run(ctx)
	return k
}

// Synced is closed when the time has been compared with servers for the first time.
func (k *Clock) Synced() <-chan struct{} { return k.synced }

// Status is a copy.
func (k *Clock) Status() Status {
	k.mu.Lock()
	defer k.mu.Unlock()
	s := k.status
	s.Servers = slices.Clone(s.Servers)
	return s
}

// Close ends the goroutine and waits for it; the clock goes on as it is.
func (k *Clock) Close() {
	k.cancel()
	<-k.done
}

// raise takes the time from the RTC when the kernel has not, and never starts below the floor.
func (k *Clock) raise() error {
	sys, floor := k.config.System, k.config.Floor
	if !sys.Now().Before(floor) {
		return nil
	}
	to := floor
	rtc, err := sys.RTC()
	if err == nil && rtc.After(floor) {
		to = rtc
	}
	k.config.Log.Warn("clock is behind the image's build time", "now", sys.Now(), "set to", to, "rtc", rtc, "err", err)
	if err := sys.Step(to); err != nil {
		return fmt.Errorf("raise clock to %s: %w", to.UTC().Format(time.DateTime), err)
	}
	return nil
}

func (k *Clock) run(ctx context.Context) {
	defer close(k.done)
	if k.config.Network != nil {
		select {
		case <-ctx.Done():
			return
		case <-k.config.Network:
		}
	}
	failures := 0
	for ctx.Err() == nil {
		servers := k.servers()
		switch err := k.round(ctx, servers); {
		case len(servers) == 0:
			failures = 0 // nobody to ask is no failure; a lease may name somebody later
		case err != nil:
			failures++
		default:
			failures = 0
		}
		timer := time.NewTimer(nextRound(failures, rand.Float64()))
		select {
		case <-ctx.Done():
		case <-timer.C:
		}
		timer.Stop()
	}
}

func (k *Clock) servers() []string {
	servers := slices.Clone(k.config.Servers)
	if k.config.More != nil {
		for _, s := range k.config.More() {
			if !slices.Contains(servers, s) {
				servers = append(servers, s)
			}
		}
	}
	return servers[:min(len(servers), maxServers)]
}

// round asks all servers at once and does what their answers amount to.
func (k *Clock) round(ctx context.Context, servers []string) error {
	if len(servers) == 0 {
		return nil
	}
	samples := k.ask(servers)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	sys := k.config.System
	now := sys.Now()
	d := decide(samples, now, k.config.Floor)
	var err error
	switch d.kind {
	case kindStep:
		err = sys.Step(now.Add(d.offset))
	case kindSlew:
		err = sys.Slew(d.offset)
	default:
		err = errors.New(d.why)
	}
	if err != nil {
		s := k.Status()
		s.Problem = fmt.Sprintf("set time by NTP: %v", err)
		k.note(s)
		return err
	}
	k.config.Log.Info("clock", "do", d.kind, "offset", d.offset, "servers", d.used)
	k.note(Status{Synced: true, Last: sys.Now(), Offset: d.offset, Servers: d.used})
	return nil
}

func (k *Clock) ask(servers []string) []sample {
	answers := make(chan sample, len(servers))
	var wg sync.WaitGroup
	for _, server := range servers {
		wg.Go(func() {
			if s, err := query(server, k.config.System); err != nil {
				k.config.Log.Debug("ask NTP server", "server", server, "err", err)
			} else {
				answers <- s
			}
		})
	}
	wg.Wait() // each query has its own limit
	close(answers)
	var samples []sample
	for s := range answers {
		samples = append(samples, s)
	}
	return samples
}

// query asks one server. An answer that the server itself does not trust is an error.
func query(server string, sys System) (sample, error) {
	r, err := ntp.QueryWithOptions(server, ntp.QueryOptions{Timeout: queryTime, GetSystemTime: sys.Now})
	if err == nil {
		err = r.Validate()
	}
	if err != nil {
		return sample{}, fmt.Errorf("ask %s: %w", server, err)
	}
	// The error bound of RFC 5905: half of the way, and what the server says of itself; its
	// root distance has the way in it. Honest servers are a little further apart than they say.
	return sample{server: server, offset: r.ClockOffset, margin: max(r.RTT/2, r.RootDistance) + tolerance}, nil
}

func (k *Clock) note(s Status) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if s.Problem != "" && s.Problem != k.status.Problem {
		k.config.Log.Warn("clock", "problem", s.Problem)
	}
	k.status = s
	if s.Synced {
		select {
		case <-k.synced:
		default:
			close(k.synced)
		}
	}
}
