package boot

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/ratchetos/ratchet/boot/counter"
	"github.com/ratchetos/ratchet/boot/internal/signtest"
	"github.com/ratchetos/ratchet/boot/internal/tpmtest"
	"github.com/ratchetos/ratchet/boot/ledger"
	"github.com/ratchetos/ratchet/boot/verdict"
)

// raise is what core does once the box is healthy: V goes up, after the cap.
func (w *world) raise(floor uint) {
	w.t.Helper()
	chip := counter.Open(w.tpm)
	auth := counter.AuthK([]byte("core's key"))
	for _, err := range []error{chip.RenewK(w.policy.RecoveryKey, auth), chip.RaiseV(auth, floor), chip.Close()} {
		if err != nil {
			w.t.Fatal(err)
		}
	}
}

// TestReleases is the life of a box over its releases, on every TPM: the next one needs nothing new,
// the one before is refused once V has risen, and not even an attempt can be closed by it.
func TestReleases(t *testing.T) {
	for _, kind := range tpmtest.Kinds {
		t.Run(kind, func(t *testing.T) {
			w := newWorld(t, kind)
			w.policy.SecurityVersion = 1
			w.want(w.boot(), verdict.Released, "provisioned")
			w.policy.Development = false
			w.policy.Version, w.policy.SecurityVersion = "2.0", 2
			w.apply(config2)
			w.want(w.boot(), verdict.Released, "closing")
			w.want(w.boot(), verdict.Released, "clean")
			w.policy.Version, w.policy.SecurityVersion = "1.0", 1
			w.want(w.boot(), verdict.Released, "clean") // V has not risen: both slots are good
			w.raise(2)
			w.apply(config1)
			r := w.boot()
			w.want(r, verdict.Isolated, "image-revoked")
			if r.Report.TPM.Floor != 2 {
				t.Errorf("floor %d", r.Report.TPM.Floor)
			}
			w.capped()
			w.policy.Version, w.policy.SecurityVersion = "2.0", 2
			w.want(w.boot(), verdict.Released, "closing")
		})
	}
}

// TestSpareKey: the active key is lost, and the release that only the spare signed runs at once.
func TestSpareKey(t *testing.T) {
	w := newWorld(t, "simulator")
	w.want(w.boot(), verdict.Released, "provisioned")
	w.policy.Development = false
	w.policy.Version, w.signers = "2.0", []string{signtest.Spare}
	w.apply(config2)
	w.want(w.boot(), verdict.Released, "closing")
	w.signers = []string{signtest.Thief, signtest.Active}
	w.apply(config1)
	w.want(w.boot(), verdict.Released, "closing")
}

// TestNotApproved has every way for an image to be without a signature that counts. None provisions.
func TestNotApproved(t *testing.T) {
	for _, c := range []struct {
		name, code string
		change     func(w *world)
	}{
		{"no file", "image-unsigned", func(w *world) { w.signed = [][]byte{} }},
		{"empty file", "image-unsigned", func(w *world) { w.signed = [][]byte{{}} }},
		{"junk", "image-unsigned", func(w *world) { w.signed = [][]byte{[]byte("{}"), []byte("junk")} }},
		{"another image's", "image-unsigned", func(w *world) {
			w.signed = [][]byte{signtest.Sign(w.t, "0.9", 0, signtest.Active)}
		}},
		{"a thief's", "image-unsigned", func(w *world) { w.signers = []string{signtest.Thief} }},
		{"another security version", "image-unsigned", func(w *world) {
			w.signed = [][]byte{signtest.Sign(w.t, "1.0", 9, signtest.Active)}
		}},
		{"no keys in the image", "image-unsigned", func(w *world) { w.policy.PolicyKeys = nil }},
		{"PCR 12", "image-input", func(w *world) { w.input = 12 }},
		{"PCR 13", "image-input", func(w *world) { w.input = 13 }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Run("new box", func(t *testing.T) { // there is one simulator in a process
				w := newWorld(t, "simulator")
				c.change(w)
				w.want(w.boot(), verdict.Isolated, c.code)
			})
			w := newWorld(t, "simulator")
			w.want(w.boot(), verdict.Released, "provisioned")
			c.change(w)
			w.want(w.boot(), verdict.Isolated, c.code)
			w.capped()
			// It was the image, not the box: a good one runs, and E did not move.
			w.policy.PolicyKeys, w.signers, w.signed, w.input = signtest.Keys(t), []string{signtest.Active}, nil, 0
			w.want(w.boot(), verdict.Released, "clean")
		})
	}
}

// TestTPMDecides lets init believe everything: what the TPM refuses is refused all the same.
func TestTPMDecides(t *testing.T) {
	w := newWorld(t, "simulator")
	w.want(w.boot(), verdict.Released, "provisioned")
	w.raise(3)
	w.reset()
	chip := counter.Open(w.tpm)
	pcrs, err := chip.ReadPCRs()
	if err != nil {
		t.Fatal(err)
	}
	c := check{Machine: Machine{Policy: w.policy, Signed: [][]byte{signtest.Sign(t, "1.0", 0, signtest.Active)}}, pcrs: pcrs}
	if a := c.approve(); a.Problem != "" {
		t.Fatal(a.Problem)
	}
	err = chip.WriteE(c.box, c.approval, counter.Expected{Counter: 1, Ledger: ledger.Digest{1}}, false)
	if err == nil {
		t.Error("a revoked image wrote E")
	}
	w.policy.SecurityVersion = 3
	w.want(w.boot(), verdict.Released, "clean")
}

func TestReadSigned(t *testing.T) {
	root := t.TempDir()
	if got := readSigned(root); got != nil {
		t.Errorf("read %q of nothing", got)
	}
	for _, name := range []string{stubSigned, directSigned} {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if got := readSigned(root); len(got) != 2 || string(got[0]) != stubSigned || string(got[1]) != directSigned {
		t.Errorf("read %q", got)
	}
}
