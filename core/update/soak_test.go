package update

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"strconv"
	"testing"

	"github.com/ratchetos/ratchet/boot/bundle"
)

// interruptions is how many updates TestInterrupted cuts off; RATCHET_SOAK asks for more. 10,000 are the goal of a soak.
const interruptions = 100

// TestInterrupted applies updates, settles and goes back, and cuts the power at a random step of each, of the boots
// after it, or nowhere. Whatever was cut: the box comes up released, from one of the two images it had or was given,
// or in the recovery console when both are broken; it never runs what V refuses; and the next update works.
func TestInterrupted(t *testing.T) {
	n := interruptions
	if s := os.Getenv("RATCHET_SOAK"); s != "" {
		var err error
		if n, err = strconv.Atoi(s); err != nil {
			t.Fatal(err)
		}
	}
	const life = 25 // a machine's updates; then the next one
	cuts, ends := 0, map[string]int{}
	for seed := range uint64((n + life - 1) / life) {
		r, err := newRig(newBox(t), seed+1)
		must(t, err)
		if out, err := r.powerOn(); out != "runs" || err != nil {
			t.Fatalf("seed %d: %s, %v\n%q", seed, out, err, r.log)
		}
		for turn := range life {
			r.log = nil
			cut, out := r.turn(t, turn)
			if cut {
				cuts++
			}
			ends[out]++
			if t.Failed() {
				t.Fatalf("seed %d, turn %d:\n%q", seed, turn, r.log)
			}
		}
	}
	t.Logf("%d updates, %d of them cut off: %v", n, cuts, ends)
	if cuts < n/4 || ends["runs"] < n/2 {
		t.Errorf("the seeds do not cut: %d cuts, %v", cuts, ends)
	}
}

// turn is one thing that is done to the box, cut off or not, and the boots after it.
func (r *rig) turn(t *testing.T, turn int) (cut bool, outcome string) {
	before, _, _ := r.holds(r.running)
	next := image{version: fmt.Sprint(turn + 1), security: before.security + uint(r.rand.IntN(2))}
	switch r.rand.IntN(5) {
	case 0:
		next.panics = true
	case 1:
		next.sick = true
	}
	r.power.left = -1
	if r.rand.IntN(4) > 0 {
		r.power.left = r.rand.IntN(40)
	}
	from := r.floor
	err := r.act(t, next)
	cut = r.power.off
	// The cut may also come in the boots that follow; then they are done again.
	for range 2 {
		if outcome, err = r.powerOn(); !errors.Is(err, errPower) {
			break
		}
		cut = true
	}
	if err != nil {
		t.Errorf("%v", err)
		return cut, "error"
	}
	now, _, ok := r.holds(r.running)
	r.say("floor %d, runs %+v (was %+v, given %+v)", r.floor, now, before, next)
	switch {
	case outcome != "runs":
		// The image that ran before was healthy, so it must never come to this.
		t.Errorf("the box does not come up: %s", outcome)
	case !ok || now.panics || now.sick:
		t.Errorf("it runs %+v", now)
	case now.security < r.floor || r.floor < from:
		t.Errorf("it runs security version %d, the floor is %d, was %d", now.security, r.floor, from)
	}
	return cut, outcome
}

// act does one thing at random. Its error is a power cut or a refusal; what matters is how the box comes up.
func (r *rig) act(t *testing.T, next image) error {
	quiet := func(string, int64, int64) {}
	switch r.rand.IntN(6) {
	case 0:
		_, err := r.core.Settle(t.Context(), "soak", quiet)
		r.say("settle: %v", err)
		return err
	case 1:
		_, err := r.core.Rollback(t.Context(), true)
		r.say("rollback: %v", err)
		return err
	}
	uki := r.build(next)
	b := r.state.pack(uki, func(m *bundle.Manifest) {
		m.Version, m.SecurityVersion, m.Revokes = next.version, next.security, r.rand.IntN(3) == 0
	})
	if _, err := r.core.Stage(0, b); err != nil {
		return err
	}
	_, err := r.core.Apply(t.Context(), Request{Signer: "soak", Restart: true}, quiet)
	r.say("apply %+v: %v", next, err)
	return err
}

// pack makes a bundle of any image.
func (b *box) pack(uki []byte, change func(*bundle.Manifest)) []byte {
	b.t.Helper()
	m := bundle.Manifest{
		Format: bundle.Format, Product: bundle.Product, Flavour: "full", Arch: "x86_64", Development: true,
		UKI:  bundle.File{Length: int64(len(uki)), SHA256: sha256.Sum256(uki)},
		SBOM: bundle.File{Length: 2, SHA256: sha256.Sum256([]byte("{}"))},
	}
	change(&m)
	text, err := m.Encode()
	must(b.t, err)
	sig, err := bundle.Sign(text, b.key)
	must(b.t, err)
	var out bytes.Buffer
	must(b.t, bundle.Write(&out, text, sig, []byte("{}"), bytes.NewReader(uki)))
	return out.Bytes()
}
