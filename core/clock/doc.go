// Package clock sets the box's time: a floor and the real time clock at start, NTP afterwards.
//
// Start returns at once. A box without a battery starts in 1970, where no certificate is valid
// yet: before anything else the clock is brought to at least the time the image was built. Then
// one goroutine asks several NTP servers, combines what they say, and steps the clock when it is
// off by more than a second or slews it otherwise. It asks again about every quarter of an hour;
// failures are retried with growing, jittered pauses, and nothing waits for success.
//
// # Trust
//
// NTP here is not authenticated. The floor keeps a server from taking the box back before its
// build; an answer that most of the other servers contradict is dropped. What must not be
// fooled at all (attempt counting, leases) does not use this clock.
//
// # Parts
//
// decide (engine.go) is pure: answers in, decision out. clock.go is the loop, system.go the
// three system calls. Source: RFC 5905 for the protocol (by beevik/ntp) and the selection of
// agreeing servers; adjtimex(2); rtc(4).
package clock
