package network

import (
	"fmt"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
)

// The scripts step the machine by the clock: "at 30m" asks what to do 30 minutes after the
// start, "granted", "failed", "lost" and "replugged" tell it what happened at that time.
func TestLeaseTimes(t *testing.T) {
	datadriven.Walk(t, "testdata/lease", func(t *testing.T, path string) {
		start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
		now := start
		var m machine
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			duration := func(key string) time.Duration {
				var s string
				if !d.HasArg(key) {
					return 0
				}
				d.ScanArgs(t, key, &s)
				v, err := time.ParseDuration(s)
				if err != nil {
					d.Fatalf(t, "%s: %v", key, err)
				}
				return v
			}
			switch d.Cmd {
			case "at":
				v, err := time.ParseDuration(d.CmdArgs[0].Key)
				if err != nil {
					d.Fatalf(t, "%v", err)
				}
				now = start.Add(v)
			case "granted":
				m.granted(lease{duration: duration("for"), t1: duration("t1"), t2: duration("t2")}, now)
			case "failed":
				m.failed(now)
			case "lost":
				m.lost(now)
			case "replugged":
				m.replugged(now)
			default:
				d.Fatalf(t, "unknown command %s", d.Cmd)
			}
			do, wait := m.step(now)
			if do == actWait {
				return fmt.Sprintf("%s: wait %s\n", m.phase, wait)
			}
			return fmt.Sprintf("%s: %s\n", m.phase, do)
		})
	})
}

// Whatever a server grants, the machine never asks twice at one time without a pause, never
// keeps an address past its time, and always names a next time.
func FuzzLeaseTimes(f *testing.F) {
	f.Add(uint32(3600), uint32(1800), uint32(3150), []byte{0, 1, 0, 2})
	f.Add(uint32(0xffffffff), uint32(0), uint32(0), []byte{0, 0})
	f.Add(uint32(1), uint32(9), uint32(5), []byte{1, 1, 1, 3, 0})
	f.Fuzz(func(t *testing.T, d, t1, t2 uint32, outcomes []byte) {
		now := time.Unix(1<<30, 0)
		var m machine
		grant := lease{duration: time.Duration(d) * time.Second, t1: time.Duration(t1) * time.Second, t2: time.Duration(t2) * time.Second}
		for _, o := range outcomes[:min(len(outcomes), 200)] {
			do, wait := m.step(now)
			if do == actWait && wait <= 0 {
				t.Fatalf("%s waits %s", m.phase, wait)
			}
			if do != actWait && do != actExpire && m.phase != phaseInit && now.Sub(m.since) >= m.lease.duration {
				t.Fatalf("%s with a lease that is over", do)
			}
			switch {
			case do == actWait:
				now = now.Add(wait)
			case do == actExpire:
				m.lost(now)
			case o%4 == 0:
				m.granted(grant, now)
			case o%4 == 3:
				m.replugged(now)
				m.failed(now)
			default:
				m.failed(now)
			}
		}
	})
}
