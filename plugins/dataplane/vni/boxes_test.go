package vni

import (
	"context"
	"fmt"
	"testing"
	"time"
)

// A box that ends and comes back finds everything where it was: same holder, same epoch.
func TestBoxRestarted(t *testing.T) {
	t.Parallel()
	patiently(t, func(t *testing.T) error {
		w := newWorld(t, 2, 1)
		ra, rb := w.hosts[0].instance("a"), w.hosts[1].instance("b")
		w.define("h1/a", "h2/b")
		w.serve(0, Config{})
		first := w.run2()
		s := w.stream(1, w.told)
		ra.until(t, 50)
		b := w.boxes[0]
		if err := b.part.Stop(context.Background()); err != nil {
			t.Fatal(err)
		}
		b.Restart()
		w.serve(0, Config{})
		w.eventually("VNI attached as before", func() bool { return w.status()[0].State == "attached" })
		ra.until(t, s.Sent())
		w.eventually("the hosts' counters", func() bool {
			for _, h := range b.part.packets().Hosts {
				if h.Name == "h1" && h.Packets["delivered"] > 0 {
					return true
				}
			}
			return false
		})
		s.Stop()
		if now := w.status()[0]; now.Epoch != first.Epoch || len(rb.Between(1, stale)) > 0 {
			return fmt.Errorf("%w: epoch %d before, %d after", errDisturbed, first.Epoch, now.Epoch)
		}
		return nil
	})
}

// Of two control planes the hosts elect one. When it is lost the other one learns from them what is where, and
// moves what must move.
func TestTwoControlPlanes(t *testing.T) {
	t.Parallel()
	patiently(t, func(t *testing.T) error {
		w := newWorld(t, 3, 2)
		ra, rb := w.hosts[0].instance("a"), w.hosts[1].instance("b")
		w.hosts[2].instance("c") // its host has a vote
		w.define("h1/a", "h2/b")
		for i := range w.boxes {
			w.serve(i, Config{ID: i + 1, Peers: 1})
		}
		for _, h := range w.hosts {
			h.run()
		}
		first, _ := w.await("VNI somewhere", func(l Location) bool { return l.Up })
		leader := 0
		w.eventually("one leader with a majority", func() bool {
			n := 0
			for i, b := range w.boxes {
				if l, err := b.part.list(); err == nil && l.Leads && l.Majority {
					leader, n = i, n+1
				}
			}
			return n == 1
		})
		if err := w.boxes[leader].part.Stop(context.Background()); err != nil {
			t.Fatal(err)
		}
		w.boxes[leader].Stop()
		lost := time.Now()
		w.leader = 1 - leader
		w.eventually("the other one leading, the VNI where it was", func() bool {
			l, err := w.boxes[1-leader].part.list()
			return err == nil && l.Leads && l.Majority && l.Interfaces[0].State == "attached"
		})
		t.Logf("the other control plane leads after %v", time.Since(lost))
		now := w.status()[0]
		if now.Holder.String() != first.Holder.String() || now.Epoch != first.Epoch {
			return fmt.Errorf("%w: from %s at %d to %s at %d", errDisturbed, first.Holder, first.Epoch, now.Holder, now.Epoch)
		}
		holder, other := ra, "h2/b"
		if first.Holder.Host == "h2" {
			holder, other = rb, "h1/a"
		}
		w.eventually("the stand-by ready", func() bool {
			for _, c := range w.status()[0].Candidates {
				if !c.Eligible {
					return false
				}
			}
			return true
		})
		holder.holder.Kill()
		if last, _ := w.await("VNI at "+other, upAt(other)); last.Epoch <= first.Epoch {
			return fmt.Errorf("epoch %d after %d", last.Epoch, first.Epoch)
		}
		return nil
	})
}
