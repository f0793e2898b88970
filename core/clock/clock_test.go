package clock

import (
	"encoding/binary"
	"errors"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestDecide(t *testing.T) {
	now := time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)
	floor := now.Add(-24 * time.Hour)
	s := func(server string, offset, margin time.Duration) sample { return sample{server, offset, margin} }
	const ms = time.Millisecond
	for _, tt := range []struct {
		name    string
		samples []sample
		want    kind
		offset  time.Duration
		used    string
		why     string
	}{
		{"nobody", nil, kindReject, 0, "", "no server answered"},
		{"one, near", []sample{s("a", 300*ms, 20*ms)}, kindSlew, 300 * ms, "a", ""},
		{"one, at the threshold", []sample{s("a", time.Second, 20*ms)}, kindSlew, time.Second, "a", ""},
		{"one, far", []sample{s("a", 90*time.Second, 20*ms)}, kindStep, 90 * time.Second, "a", ""},
		{"one, behind", []sample{s("a", -time.Hour, 20*ms)}, kindStep, -time.Hour, "a", ""},
		{"most exact of those that agree", []sample{s("a", 2000*ms, 300*ms), s("b", 2100*ms, 10*ms), s("c", 2050*ms, 90*ms)}, kindStep, 2100 * ms, "a b c", ""},
		{"one liar of three", []sample{s("a", 5*ms, 10*ms), s("liar", time.Hour, ms), s("c", 8*ms, 20*ms)}, kindSlew, 5 * ms, "a c", ""},
		{"one against one", []sample{s("a", 5*ms, 10*ms), s("b", time.Hour, ms)}, kindReject, 0, "", "contradict"},
		{"two against two", []sample{s("a", 0, ms), s("b", 0, ms), s("c", time.Hour, ms), s("d", time.Hour, ms)}, kindReject, 0, "", "contradict"},
		{"before the image was built", []sample{s("a", -25*time.Hour, ms)}, kindReject, 0, "", "before this image was built"},
		{"all lie into the past", []sample{s("a", -99*time.Hour, ms), s("b", -99*time.Hour, ms)}, kindReject, 0, "", "before this image was built"},
	} {
		d := decide(tt.samples, now, floor)
		slices.Sort(d.used)
		if d.kind != tt.want || d.offset != tt.offset || strings.Join(d.used, " ") != tt.used || !strings.Contains(d.why, tt.why) {
			t.Errorf("%s: %+v", tt.name, d)
		}
	}
}

func TestNextRound(t *testing.T) {
	for _, tt := range []struct {
		failures int
		spread   float64
		want     time.Duration
	}{
		{0, 0.5, interval},
		{0, 0, interval * 3 / 4},
		{0, 1, interval * 5 / 4},
		{1, 0.5, time.Second},
		{2, 0.5, 2 * time.Second},
		{5, 0.5, 16 * time.Second},
		{12, 0.5, lastRetry},
		{1 << 40, 0.5, lastRetry},
	} {
		if got := nextRound(tt.failures, tt.spread); got != tt.want {
			t.Errorf("after %d failures (%v): %s, want %s", tt.failures, tt.spread, got, tt.want)
		}
	}
}

// wrong is a clock that is off and writes down what is done to it.
type wrong struct {
	mu    sync.Mutex
	by    time.Duration
	rtc   time.Time // zero: there is none
	steps []time.Time
	slews []time.Duration
}

func (w *wrong) Now() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return time.Now().Add(w.by)
}

func (w *wrong) RTC() (time.Time, error) {
	if w.rtc.IsZero() {
		return w.rtc, errors.New("no such device")
	}
	return w.rtc, nil
}

func (w *wrong) Step(to time.Time) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.steps = append(w.steps, to)
	w.by = time.Until(to)
	return nil
}

func (w *wrong) Slew(offset time.Duration) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.slews = append(w.slews, offset)
	return nil
}

// server is a small NTP responder: it answers with its own idea of the time, off by lie. A
// mute one reads and says nothing.
func server(t *testing.T, lie time.Duration, mute bool) string {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	go func() {
		request := make([]byte, 512)
		for {
			n, from, err := conn.ReadFrom(request)
			if err != nil {
				return
			}
			if n < 48 || mute {
				continue
			}
			reply := make([]byte, 48)
			reply[0], reply[1], reply[3] = 0<<6|4<<3|4, 1, 0xec // no warning, version 4, server; stratum 1
			now := stamp(time.Now().Add(lie))
			copy(reply[12:], "TEST")
			binary.BigEndian.PutUint64(reply[16:], now)
			copy(reply[24:32], request[40:48]) // the client's own stamp comes back
			binary.BigEndian.PutUint64(reply[32:], now)
			binary.BigEndian.PutUint64(reply[40:], stamp(time.Now().Add(lie)))
			_, _ = conn.WriteTo(reply, from)
		}
	}()
	return conn.LocalAddr().String()
}

// stamp is a time in NTP's format: seconds since 1900 and a binary fraction.
func stamp(t time.Time) uint64 {
	const from1900 = 2208988800
	return uint64(t.Unix()+from1900)<<32 | uint64(t.Nanosecond())<<32/1e9
}

func synced(t *testing.T, k *Clock) {
	t.Helper()
	t.Cleanup(k.Close)
	select {
	case <-k.Synced():
	case <-time.After(20 * time.Second):
		t.Fatalf("not synced: %+v", k.Status())
	}
}

func TestStepsAClockThatIsFarOff(t *testing.T) {
	w := &wrong{by: -90 * time.Minute}
	leased := server(t, 5*time.Millisecond, false)
	k := Start(t.Context(), Config{
		System: w, Floor: time.Now().Add(-24 * time.Hour),
		Servers: []string{server(t, 0, false), server(t, 10*time.Hour, false)},
		More:    func() []string { return []string{leased} },
	})
	synced(t, k)
	if off := time.Until(w.Now()).Abs(); off > 100*time.Millisecond || len(w.steps) != 1 || len(w.slews) != 0 {
		t.Errorf("off by %s after %v, %v", off, w.steps, w.slews)
	}
	if s := k.Status(); !s.Synced || len(s.Servers) != 2 || s.Problem != "" || (s.Offset-90*time.Minute).Abs() > time.Second {
		t.Errorf("status %+v", s)
	}
}

func TestSlewsAClockThatIsNearlyRight(t *testing.T) {
	w := &wrong{by: -400 * time.Millisecond}
	synced(t, Start(t.Context(), Config{System: w, Servers: []string{server(t, 0, false)}}))
	if len(w.steps) != 0 || len(w.slews) != 1 || (w.slews[0]-400*time.Millisecond).Abs() > 100*time.Millisecond {
		t.Errorf("steps %v, slews %v", w.steps, w.slews)
	}
}

// Start does not wait: for a network that never comes, for servers that never answer.
func TestStartNeverBlocks(t *testing.T) {
	w := &wrong{}
	for _, c := range []Config{
		{System: w, Servers: []string{server(t, 0, true)}, Network: make(chan struct{})},
		{System: w},
	} {
		start := time.Now()
		k := Start(t.Context(), c)
		if took := time.Since(start); took > time.Second {
			t.Errorf("Start took %s", took)
		}
		k.Close()
		if s := k.Status(); s.Synced || len(w.steps) != 0 {
			t.Errorf("status %+v, steps %v", s, w.steps)
		}
	}
}

func TestRaisesToTheFloor(t *testing.T) {
	floor := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, tt := range []struct {
		name      string
		now       time.Time
		rtc, want time.Time
	}{
		{"no battery, no RTC", time.Unix(100, 0), time.Time{}, floor},
		{"RTC reset too", time.Unix(100, 0), time.Unix(200, 0), floor},
		{"RTC right", time.Unix(100, 0), floor.Add(time.Hour), floor.Add(time.Hour)},
		{"clock right", floor.Add(time.Hour), time.Time{}, time.Time{}},
	} {
		w := &wrong{by: time.Until(tt.now), rtc: tt.rtc}
		Start(t.Context(), Config{System: w, Floor: floor}).Close()
		var got time.Time
		if len(w.steps) > 0 {
			got = w.steps[0]
		}
		if !got.Equal(tt.want) {
			t.Errorf("%s: set to %s, want %s", tt.name, got, tt.want)
		}
	}
}

func TestRefusesTimeBeforeTheFloor(t *testing.T) {
	w := &wrong{}
	k := Start(t.Context(), Config{System: w, Floor: time.Now().Add(-time.Hour), Servers: []string{server(t, -48*time.Hour, false)}})
	defer k.Close()
	for deadline := time.Now().Add(10 * time.Second); !strings.Contains(k.Status().Problem, "before this image was built"); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("status %+v", k.Status())
		}
	}
	if len(w.steps)+len(w.slews) != 0 {
		t.Errorf("clock was touched: %v %v", w.steps, w.slews)
	}
}
