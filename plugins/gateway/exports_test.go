package gateway

import (
	"context"
	"testing"
	"time"

	"github.com/ratchetos/ratchet/plugins/gateway/nbd"
)

func TestLookupWaitsForAVolumeOnItsWay(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	set := new(nbd.Set)
	r := &runner{name: "v", state: stateStarting}
	a := arriving{Set: set, ctx: ctx, runners: []*runner{r}}

	if a.Lookup("other") != nil {
		t.Error("a name that is not configured is exported")
	}
	got := make(chan *nbd.Export)
	for _, name := range []string{"v", ""} { // the only volume is the default one
		go func() { got <- a.Lookup(name) }()
	}
	select {
	case e := <-got:
		t.Fatalf("lookup returned %v before the volume was up", e)
	case <-time.After(20 * time.Millisecond):
	}
	// What open does when the volume is up.
	r.look() // somebody waits, however late the two above are
	r.mu.Lock()
	if err := set.Add(&nbd.Export{Name: "v"}); err != nil {
		t.Fatal(err)
	}
	r.state = "attached"
	close(r.moved)
	r.moved = nil
	r.mu.Unlock()
	for range 2 {
		if e := <-got; e == nil || e.Name != "v" {
			t.Errorf("lookup returned %v", e)
		}
	}
}

func TestLookupDoesNotWaitInVain(t *testing.T) {
	for _, state := range []string{stateNeedsClaim, "failed"} {
		r := &runner{name: "v", state: state}
		a := arriving{Set: new(nbd.Set), ctx: t.Context(), runners: []*runner{r}}
		start := time.Now()
		if a.Lookup("v") != nil || time.Since(start) > time.Second {
			t.Errorf("%s: looked up in %v", state, time.Since(start))
		}
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	r := &runner{name: "v", state: stateStarting}
	if (arriving{Set: new(nbd.Set), ctx: ended, runners: []*runner{r}}).Lookup("v") != nil {
		t.Error("a service that ends exports a volume")
	}
}
