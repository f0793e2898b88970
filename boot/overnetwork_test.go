package boot

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"errors"
	"io"
	"testing"

	"github.com/ratchetos/ratchet/boot/fetch"
	"github.com/ratchetos/ratchet/boot/ledger"
	"github.com/ratchetos/ratchet/boot/verdict"
)

func (w *world) fetch(_ context.Context, link string, _ fetch.From, limit int64, to io.Writer) error {
	if !w.iron.bound[nicPlace] {
		w.t.Errorf("%s is used, and not bound", link)
	}
	if w.fetched == nil {
		return errors.New("nobody answers")
	}
	if int64(len(w.fetched)) > limit {
		w.t.Errorf("a limit of %d", limit)
	}
	_, err := to.Write(w.fetched)
	return err
}

// TestReflashOverNetwork writes a slot from a bundle that comes over the quarantine NIC, and only over that.
func TestReflashOverNetwork(t *testing.T) {
	older, newer := bytes.Repeat([]byte("older"), 1<<18), bytes.Repeat([]byte("newer"), 1<<18)
	const types = "reflash B http://192.0.2.10/update.bundle 192.0.2.5/24"
	for _, c := range []struct {
		name, types string
		prepare     func(w *world, key *ecdsa.PrivateKey)
		says        string
		written     bool
	}{
		{
			"good", types, func(w *world, k *ecdsa.PrivateKey) { w.fetched = w.bundle(k, newer, nil) },
			"slot B holds image 2.0 from http://192.0.2.10/update.bundle now (attempt 2)", true,
		},
		{"a stranger's", types, func(w *world, _ *ecdsa.PrivateKey) { w.fetched = w.bundle(newWorldKey(w.t), newer, nil) }, "not signed by a key", false},
		{"cut off", types, func(w *world, k *ecdsa.PrivateKey) { w.fetched = w.bundle(k, newer, nil)[:1<<20] }, "not done", false},
		{"no answer", types, func(*world, *ecdsa.PrivateKey) {}, "nobody answers", false},
		{"a name", "reflash B http://example.org/update.bundle", func(*world, *ecdsa.PrivateKey) {}, "names are not looked up", false},
		{"no NIC in the policy", types, func(w *world, _ *ecdsa.PrivateKey) { w.policy.QuarantineNIC = "" }, "leaves no NIC for recovery", false},
		{"no NIC there", types, func(w *world, _ *ecdsa.PrivateKey) { w.policy.QuarantineNIC = diskPlace }, "there is no NIC at " + diskPlace, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			w, slots := slotted(t, older)
			k := newWorldKey(t)
			w.policy.BundleKeys, w.policy.QuarantineNIC = []string{publicPEM(t, k)}, nicPlace
			w.iron.behind[nicPlace][0].Node = "eth7"
			first := w.boot()
			w.want(first, verdict.Released, "provisioned")
			c.prepare(w, k)
			w.types(c.types, "status")
			w.asked = "it was asked for"
			r := w.boot()
			w.shows(c.says)
			want := ledger.Sum(older)
			if c.written {
				want = ledger.Sum(newer)
			}
			if got := slotHolds(t, slots[1]); got != want {
				t.Errorf("slot B holds %s, want %s", got.Short(), want.Short())
			}
			if counted := r.Report.Counter > first.Report.Counter; counted != c.written {
				t.Errorf("counter %d, before %d", r.Report.Counter, first.Report.Counter)
			}
			w.console, w.asked = nil, ""
			w.want(w.boot(), verdict.Released, "clean")
		})
	}
}
