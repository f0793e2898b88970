package upload

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	_ "time/tzdata" // the machine may have none

	"github.com/cockroachdb/datadriven"
)

// TestSchedule runs testdata/schedule.txt. `schedule` sets the windows, a line each: FROM TO RATE. The other
// commands take an instant in the zone given: `rate`, `open`, `done bytes=N` and `through seconds=N`.
func TestSchedule(t *testing.T) {
	var s Schedule
	datadriven.RunTest(t, "testdata/schedule.txt", func(t *testing.T, d *datadriven.TestData) string {
		if d.Cmd == "schedule" {
			s = nil
			for line := range strings.Lines(d.Input) {
				var from, to string
				var w Window
				if _, err := fmt.Sscan(line, &from, &to, &w.Rate); err != nil {
					t.Fatalf("%s: %v", d.Pos, err)
				}
				var err1, err2 error
				w.From, err1 = ParseClock(from)
				w.To, err2 = ParseClock(to)
				if err := errors.Join(err1, err2); err != nil {
					return err.Error()
				}
				s = append(s, w)
			}
			return ""
		}
		zone, at := "UTC", ""
		if d.HasArg("zone") {
			d.ScanArgs(t, "zone", &zone)
		}
		d.ScanArgs(t, "at", &at)
		loc, err := time.LoadLocation(zone)
		if err != nil {
			t.Fatal(err)
		}
		now, err := time.ParseInLocation("2006-01-02T15:04:05", at, loc)
		if err != nil {
			t.Fatal(err)
		}
		switch d.Cmd {
		case "rate":
			rate, limited := s.Rate(now)
			if !limited {
				return "no limit"
			}
			return fmt.Sprint(rate)
		case "open":
			return s.Open(now).Format(time.DateTime + " MST")
		case "done":
			var n int64
			d.ScanArgs(t, "bytes", &n)
			return s.Done(now, n).Format("2006-01-02 15:04:05.999 MST")
		case "through":
			var seconds int
			d.ScanArgs(t, "seconds", &seconds)
			return fmt.Sprintf("%.0f", s.Through(now, now.Add(time.Duration(seconds)*time.Second)))
		}
		t.Fatalf("%s: command %q", d.Pos, d.Cmd)
		return ""
	})
}

// TestLimiter uploads ten objects at a rate and finds that they take the time they should.
func TestLimiter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewLimiter(Schedule{{Rate: 1000}}, nil)
		start := time.Now()
		for i := range 10 {
			if err := l.Wait(t.Context(), 500); err != nil {
				t.Fatal(err)
			}
			if got, want := time.Since(start), time.Duration(i)*500*time.Millisecond; got != want {
				t.Errorf("object %d went after %s, want %s", i, got, want)
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if err := l.Wait(ctx, 1); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("end of its context: %v", err)
		}
	})
	if err := (*Limiter)(nil).Wait(t.Context(), 1<<40); err != nil {
		t.Error(err)
	}
}

// TestLimiterThroughADay uploads an object a minute from before the hours that are limited to behind them, and one in a
// window that lets nothing through.
func TestLimiterThroughADay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		midnight := time.Now() // where the clock of a test begins; wherever that is in the day here, it is the zero of this one
		clock := func() time.Time { return time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC).Add(time.Since(midnight)) }
		const object = 6000
		l := NewLimiter(Schedule{{From: 8 * 60, To: 18 * 60, Rate: 50}, {From: 22 * 60, To: 23 * 60}}, clock)
		wait := func(at string) (took time.Duration) {
			t.Helper()
			c, err := ParseClock(at)
			if err != nil {
				t.Fatal(err)
			}
			now := clock()
			if d := time.Duration(c)*time.Minute - now.Sub(now.Truncate(24*time.Hour)); d > 0 {
				time.Sleep(d)
			}
			begin := clock()
			if err := l.Wait(t.Context(), object); err != nil {
				t.Fatal(err)
			}
			return clock().Sub(begin)
		}
		for _, tc := range []struct {
			at   string
			want time.Duration
		}{
			{"07:00", 0},
			{"07:59", 0},
			{"08:00", 0},                // takes the line for two minutes
			{"08:01", time.Minute},      // and this one until 08:04
			{"08:03", time.Minute},      // until 08:06
			{"17:59", 0},                // one minute at the rate, and the rest at once
			{"18:00", 0},                // no limit any more
			{"22:30", 30 * time.Minute}, // nothing goes before 23:00
		} {
			if got := wait(tc.at); got != tc.want {
				t.Errorf("at %s an object waits %s, want %s", tc.at, got, tc.want)
			}
		}
	})
}

// TestClockThatIsSet: a box comes up with a clock that is wrong, and time synchronisation puts it right while an upload waits.
// That goes when it would have gone by the right time.
func TestClockThatIsSet(t *testing.T) {
	const rate = 1 << 20
	for _, tc := range []struct {
		name     string
		schedule Schedule
		wrong    time.Duration // added to noon
		before   int           // uploads of 8 s each
		want     time.Duration // at most a minute later
	}{
		{"set back", Schedule{{Rate: rate}}, 8 * time.Hour, 2, 16 * time.Second},
		{"set ahead", Schedule{{Rate: rate}}, -8 * time.Hour, 2, 16 * time.Second},
		{"out of a window", Schedule{{From: 19 * 60, To: 6 * 60}}, 8 * time.Hour, 0, 0},
	} {
		synctest.Test(t, func(t *testing.T) {
			start := time.Now()
			var wrong atomic.Int64
			wrong.Store(int64(tc.wrong))
			l := NewLimiter(tc.schedule, func() time.Time {
				return time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC).Add(time.Since(start) + time.Duration(wrong.Load()))
			})
			for range tc.before {
				if err := l.Wait(t.Context(), 8*rate); err != nil {
					t.Fatal(err)
				}
			}
			done := make(chan error)
			go func() { done <- l.Wait(t.Context(), 8*rate) }()
			synctest.Wait()
			wrong.Store(0)
			if err := <-done; err != nil {
				t.Error(err)
			}
			if late := time.Since(start) - tc.want; late < 0 || late > time.Minute {
				t.Errorf("%s: %s after it should have gone", tc.name, late)
			}
		})
	}
}
