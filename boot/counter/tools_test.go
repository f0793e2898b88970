package counter

import (
	"encoding/binary"
	"os"
	"os/exec"
	"testing"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/ratchetos/ratchet/boot/internal/tpmtest"
)

// TestBehindOurBack moves the counter with tpm2-tools, as somebody with a shell on the box would.
func TestBehindOurBack(t *testing.T) {
	s := tpmtest.NewSWTPM(t)
	b := newUnowned(t, s)
	b.provision()
	tool := func(args ...string) error {
		cmd := exec.Command(args[0], args[1:]...)
		cmd.Env = append(os.Environ(), "TPM2TOOLS_TCTI=swtpm:path="+s.Socket)
		out, err := cmd.CombinedOutput()
		t.Logf("%v: %v %s", args, err, out)
		return err
	}
	owner := string(OwnerAuth(key))
	b.must(tool("tpm2_nvincrement", "-C", "0x01800A01", "0x01800A01"))
	b.refused("increment as owner", tool("tpm2_nvincrement", "-C", "o", "-P", owner, "0x01800A01"))
	b.refused("undefine with an empty owner value", tool("tpm2_nvundefine", "-C", "o", "0x01800A01"))
	b.refused("clear", tool("tpm2_clear", "-c", "l", string(LockoutAuth(key))))
	b.on()
	if got := b.read(); got.Counter != 2 || got.Expected.Counter != 1 {
		t.Errorf("C = %d, E = %d after one increment by tpm2_nvincrement", got.Counter, got.Expected.Counter)
	}
	b.must(b.Close())
	b.must(tool("tpm2_nvundefine", "-C", "o", "-P", owner, "0x01800A02"))
	b.on()
	if got := b.read(); got.E != Absent {
		t.Errorf("E is %v after tpm2_nvundefine with the recovery key's value", got.E)
	}
}

// busy answers "retry" some times before it lets a command through.
type busy struct {
	transport.TPM
	left int
}

func (b *busy) Send(c []byte) ([]byte, error) {
	if b.left--; b.left >= 0 {
		r := []byte{0x80, 0x01, 0, 0, 0, 10, 0, 0, 0, 0}
		binary.BigEndian.PutUint32(r[6:], uint32(tpm2.TPMRCRetry))
		return r, nil
	}
	return b.TPM.Send(c)
}

func TestRetryIsBounded(t *testing.T) {
	m := tpmtest.New(t, "simulator")
	chip := Open(&busy{m, 2})
	if _, err := chip.ReadPCRs(); err != nil || chip.Commands() != 3 {
		t.Errorf("after 2 retries: %v, %d commands", err, chip.Commands())
	}
	chip = Open(&busy{m, 1 << 30})
	if _, err := chip.ReadPCRs(); err == nil || chip.Commands() != retries+1 {
		t.Errorf("a TPM that is always busy: %v, %d commands", err, chip.Commands())
	}
}
