package boot

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"github.com/ratchetos/ratchet/boot/internal/tpmtest"
	"github.com/ratchetos/ratchet/boot/ledger"
	"github.com/ratchetos/ratchet/boot/verdict"
)

// TestAcceptClearedTPM provisions a TPM that was cleared again; the recovery key proves itself on the disk,
// whose data stay.
func TestAcceptClearedTPM(t *testing.T) {
	w := vaulted(t, "swtpm")
	first := w.boot()
	w.want(first, verdict.Released, "provisioned")
	cleared(t, w)
	w.types("accept", "WRONG")
	w.want(w.boot(), verdict.Isolated, "tpm-cleared")
	w.shows("that is not the recovery key")
	w.types("accept", "DEV-KEY")
	r := w.boot()
	w.want(r, verdict.Released, "accepted")
	w.holds(r)
	w.console = nil
	again := w.boot()
	w.want(again, verdict.Released, "clean")
	w.holds(again)
	if !bytes.Equal(again.Secret, first.Secret) {
		t.Error("core's key is another one")
	}
}

// cleared is TPM2_Clear with platform authorisation, as the firmware setup does it.
func cleared(t *testing.T, w *world) {
	t.Helper()
	if err := w.tpm.Cycle(true); err != nil {
		t.Fatal(err)
	}
	platform := tpm2.AuthHandle{Handle: tpm2.TPMRHPlatform, Auth: tpm2.PasswordAuth(nil)}
	if _, err := (tpm2.HierarchyChangeAuth{AuthHandle: platform}).Execute(w.tpm); err != nil {
		t.Fatal(err)
	}
	// TPM2_ClearControl(NO), which go-tpm does not have: handle, password session, one byte.
	clearControl := []byte{
		0x80, 0x02, 0, 0, 0, 28, 0, 0, 0x01, 0x27, 0x40, 0x00, 0x00, 0x0C,
		0, 0, 0, 9, 0x40, 0x00, 0x00, 0x09, 0, 0, 0, 0, 0, 0,
	}
	if r, err := w.tpm.Send(clearControl); err != nil || len(r) < 10 || r[9] != 0 {
		t.Fatalf("allow TPM2_Clear: %v %x", err, r)
	}
	if _, err := (tpm2.Clear{AuthHandle: platform}).Execute(w.tpm); err != nil {
		t.Fatal(err)
	}
}

// TestAcceptRolledBackTPM takes a virtual machine whose TPM went back to an earlier state. Once is enough; a power cut
// before the intents of the later life are gone leaves it isolated.
func TestAcceptRolledBackTPM(t *testing.T) {
	for _, c := range []struct {
		name string
		life func(w *world)
	}{
		{"closed attempts", func(w *world) { w.live(3) }},
		{"open attempts", func(w *world) {
			for n := range 3 {
				w.apply(fmt.Sprintf("host: n%d\n", n))
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := vaulted(t, "swtpm")
			w.want(w.boot(), verdict.Released, "provisioned")
			chip, ok := w.tpm.(*tpmtest.SWTPM)
			if !ok {
				t.Fatalf("a %T cannot be saved", w.tpm)
			}
			saved, err := chip.Save()
			if err != nil {
				t.Fatal(err)
			}
			c.life(w)
			if err := chip.Restore(saved); err != nil {
				t.Fatal(err)
			}
			w.want(w.boot(), verdict.Isolated, "tpm-rolled-back")
			later, err := ledger.OpenFile(w.path, false)
			if err != nil {
				t.Fatal(err)
			}
			defer later.Close()
			const at = 0x100000 // of the ring; see package ledger
			ring := make([]byte, 1<<20)
			if _, err := later.ReadAt(ring, at); err != nil {
				t.Fatal(err)
			}
			w.types("accept", "DEV-KEY")
			w.want(w.boot(), verdict.Released, "accepted")

			// As power would have left it: E is written, the ring is not.
			if _, err := later.WriteAt(ring, at); err != nil {
				t.Fatal(err)
			}
			w.console = nil
			w.want(w.boot(), verdict.Isolated, "tpm-rolled-back")
			w.types("accept", "DEV-KEY")
			w.want(w.boot(), verdict.Released, "accepted")
			w.console = nil
			w.want(w.boot(), verdict.Released, "clean")
			w.live(2)
			w.want(w.boot(), verdict.Released, "clean")
		})
	}
}

// TestAcceptChanges takes a release box whose Secure Boot was changed on purpose, or whose publisher was: E and the
// secret of STATE are bound to the new state, and the data stay.
func TestAcceptChanges(t *testing.T) {
	for _, c := range []struct {
		name, code string
		change     func(w *world)
	}{
		{"Secure Boot switched off", "secure-boot-changed", func(w *world) { w.off = true }},
		{"nothing", "clean", func(*world) {}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := vaulted(t, "simulator")
			w.policy.Development, w.policy.RecoveryKey = false, ""
			w.answer = func(word string) bool { return word == "provision" }
			first := w.boot()
			w.want(first, verdict.Released, "provisioned")
			_, key, _ := strings.Cut(w.said.String(), "write it down: ")
			key, _, _ = strings.Cut(key, "\n")
			c.change(w)
			r := w.boot()
			if r.Report.Box.Code != c.code {
				t.Fatalf("verdict %+v", r.Report.Box)
			}
			w.types("accept", key)
			r = w.boot()
			if c.code == "clean" {
				w.want(r, verdict.Released, "clean")
				return
			}
			w.want(r, verdict.Released, "accepted")
			w.holds(r)
			if !bytes.Equal(r.Secret, first.Secret) {
				t.Error("core's key is another one")
			}
			w.console = nil
			again := w.boot()
			w.want(again, verdict.Released, "clean")
			w.holds(again)
		})
	}
}

// TestAcceptOtherTPMCut: the power fails before E is written on another TPM; a development image then ends the provisioning
// by itself, and the intents of the old life, which this TPM has not counted, are no sign of a rollback.
func TestAcceptOtherTPMCut(t *testing.T) {
	w := vaulted(t, "simulator")
	w.want(w.boot(), verdict.Released, "provisioned")
	w.live(4)
	w.tpm = tpmtest.New(t, "swtpm")
	w.types("accept", "DEV-KEY")
	w.reset()
	w.wire = &cutBefore{w.tpm, tpm2.TPMCCNVWrite, 2} // the first keeps the box's secret
	if r := w.check(); r.Report.Box.Decision != verdict.Isolated {
		t.Fatalf("the power did not fail: %+v", r.Report.Box)
	}
	w.wire, w.console = nil, nil
	w.want(w.boot(), verdict.Released, "provisioned")
	w.want(w.boot(), verdict.Released, "clean")
}
