package engine

import (
	"testing"
	"time"
)

// TestNudgeOutlivesAnAnswer: an answer that was already on its way when the agent nudged says nothing about what the
// nudge was for, a revoked lease perhaps, so the consumer asks again and does not wait for the renewal.
func TestNudgeOutlivesAnAnswer(t *testing.T) {
	const ttl = time.Minute
	for _, status := range []Status{OK, Wait, Unknown} {
		s := NewSet(SetOptions{Run: 1, Host: "c", Service: "web", Leases: 1, Agents: 1, Jitter: func() float64 { return 0.5 }})
		requests, _ := s.Step(time.Second)
		if len(requests) != 1 {
			t.Fatalf("%d requests at the first step, want 1", len(requests))
		}
		s.Nudge(time.Second, 0)
		s.Granted(time.Second, 0, Grant{Seq: requests[0].Want.Seq, Service: "web", Status: status, TTL: ttl, Leases: []Lease{{Producer: "p", TTL: ttl}}})
		if requests, _ = s.Step(time.Second + firstRetry); len(requests) != 1 {
			t.Fatalf("%v: %d requests within a moment of the nudge, want 1", status, len(requests))
		}
		s.Granted(time.Second+firstRetry, 0, Grant{Seq: requests[0].Want.Seq, Service: "web", TTL: ttl, Leases: []Lease{{Producer: "p", TTL: ttl}}})
		if requests, _ = s.Step(2 * time.Second); len(requests) != 0 {
			t.Errorf("%v: %d requests after the answer, want none until the renewal", status, len(requests))
		}
	}
}
