package trial

import (
	"testing"
	"time"
)

// TestLinks moves three guests over two links by templates and orders of the plugin itself: the one of high priority overtakes the
// others, no link carries much more than its budget, and nothing is lost. The figures are those of `make bench AREA=migration/links`.
func TestLinks(t *testing.T) {
	ctx := t.Context()
	// At this budget the others take longer than it takes to measure and start the urgent one, on a busy machine, too.
	l, err := OpenLinks(ctx, LinksOptions{Budget: 16 << 20, Fill: [3]int{24, 24, 4}, Dirty: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	took, ahead, err := l.Overtake(ctx)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("the urgent one took %v and was done %v before the others, of which %d and %d MiB were sent; peak %.3f of the budget",
		took, ahead, l.Meter.Sent("vm1")>>20, l.Meter.Sent("vm2")>>20, l.Peak())
	if ahead <= 0 {
		t.Errorf("the urgent move was done %v after another", -ahead)
	}
	// A busy machine delays QEMUs between limit and byte; a limit that does not hold shows as three times the budget.
	if peak := l.Peak(); peak > 1.5 || peak == 0 {
		t.Errorf("a second carries %.2f of the budget", peak)
	}
	if err := l.Proof(ctx); err != nil {
		t.Error(err)
	}
}

// TestBest: the guest that needs both links goes before or after the others, not between them.
func TestBest(t *testing.T) {
	solo := map[string]time.Duration{"vm1": 3, "vm2": 5, "vm3": 7}
	if got := Best(Crossings(), solo); got != 12 {
		t.Errorf("the best order takes %d, want 7 and then the longer of 3 and 5", got)
	}
}

// TestPeak: bytes are counted by the QEMU's clock, and the worst second may begin anywhere.
func TestPeak(t *testing.T) {
	var m Meter
	m.Reset()
	for _, line := range []string{
		`{"return": {"status": "active", "total-time": 500, "ram": {"transferred": 100}}}`,
		`{"return": {"status": "active", "total-time": 1000, "ram": {"transferred": 500}}}`,
		`{"return": {"status": "active", "total-time": 1500, "ram": {"transferred": 800}}}`,
		`{"return": {"status": "completed", "total-time": 2500, "ram": {"transferred": 900}}}`,
		`{"return": {"status": "running"}}`,
	} {
		m.line("a", false, []byte(line))
	}
	if got := m.Peak("a", "none"); got != 700 {
		t.Errorf("a second carries %v, want 700", got)
	}
	if got := m.Sent("a"); got != 900 {
		t.Errorf("%d bytes were sent", got)
	}
}
