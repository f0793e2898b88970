package boot

import (
	"encoding/binary"
	"strings"
	"testing"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/ratchetos/ratchet/boot/verdict"
)

// cutBefore is a bus on which the power fails before the nth command of a kind.
type cutBefore struct {
	transport.TPM
	code tpm2.TPMCC
	nth  int
}

func (c *cutBefore) Send(b []byte) ([]byte, error) {
	if tpm2.TPMCC(binary.BigEndian.Uint32(b[6:])) == c.code {
		c.nth--
	}
	if c.nth <= 0 {
		return nil, errPower
	}
	return c.TPM.Send(b)
}

// shownKey is the recovery key that the box shows once.
func (w *world) shownKey() string {
	_, key, _ := strings.Cut(w.said.String(), "RECOVERY KEY, shown once, write it down: ")
	key, _, _ = strings.Cut(key, "\n")
	return key
}

// TestReleaseProvisionCut: the power fails while a release image is provisioned, after the TPM took the key that was
// shown. The box asks for that one, shows no other that would open nothing, and goes on with it.
func TestReleaseProvisionCut(t *testing.T) {
	for _, c := range []struct {
		name string
		code tpm2.TPMCC
		nth  int
	}{
		{"before TPM2_Clear is disabled", tpm2.TPMCCClearControl, 1},
		{"before C counts", tpm2.TPMCCNVIncrement, 1},
		{"before the secret is kept", tpm2.TPMCCNVWrite, 1},
		{"before E is written", tpm2.TPMCCNVWrite, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := vaulted(t, "simulator")
			w.policy.Development, w.policy.RecoveryKey = false, ""
			w.answer = func(string) bool { return true }
			w.wire = &cutBefore{w.tpm, c.code, c.nth}
			if r := w.boot(); r.Report.Box.Decision != verdict.Isolated {
				t.Fatalf("the power did not fail: %+v", r.Report.Box)
			}
			key := w.shownKey()
			if key == "" {
				t.Fatalf("no recovery key in\n%s", w.said.String())
			}
			w.wire = nil
			w.types("provision")
			w.want(w.boot(), verdict.Isolated, "tpm-owned")
			w.shows("accept", "the recovery key that was shown then")
			if again := w.shownKey(); again != "" {
				t.Errorf("another key is shown, which the TPM does not know: %s", again)
			}
			w.types("accept", key)
			r := w.boot()
			w.want(r, verdict.Released, "accepted")
			w.holds(r)
			w.console = nil
			w.want(w.boot(), verdict.Released, "clean")
		})
	}
}
