package systems

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
	"github.com/google/go-tpm/tpm2/transport/linuxudstpm"

	tpmcounter "github.com/ratchetos/ratchet/boot/counter"
	"github.com/ratchetos/ratchet/boot/ledger"
	"github.com/ratchetos/ratchet/boot/pcrsig"
	"github.com/ratchetos/ratchet/image/builder"
	"github.com/ratchetos/ratchet/image/disk"
	"github.com/ratchetos/ratchet/image/keys"
	"github.com/ratchetos/ratchet/image/uki"
	"github.com/ratchetos/ratchet/qemu/box"
	"github.com/ratchetos/ratchet/qemu/vm"
)

// replay is a program of an attacker on a machine that was provisioned with Secure Boot on. With Secure Boot off it
// runs, and tells the TPM all that the stub would tell it of the image, so that PCR 11 is right. It has the image's
// signed policy too, which is no secret. PCR 7 stands in its way, since the TPM remembers that Secure Boot is off.
func (s *counterSuite) replay(t *testing.T, dir string) {
	image, err := os.ReadFile(filepath.Join(s.image, builder.SignedFile))
	must(t, err)
	f, err := uki.Parse(image)
	must(t, err)
	var known ledger.Box
	onLedger(t, dir, func(m ledger.Medium) {
		c, err := ledger.Open(m).Load()
		must(t, err)
		for _, slot := range c.Slots {
			if slot.Err == nil {
				known = slot.Ledger.Box
			}
		}
	})
	policy, approval := policyOf(t, f, known)

	srv, err := (&vm.TPM{Dir: filepath.Join(dir, "tpm")}).Serve(t.Context())
	must(t, err)
	defer srv.Stop()
	tpm, err := linuxudstpm.Open(srv.Socket)
	must(t, err)
	defer tpm.Close()
	extend(t, tpm, 7, "Secure Boot is off")
	for _, name := range []string{".linux", ".osrel", ".cmdline", ".initrd", ".splash", ".dtb", ".pcrpkey"} {
		if data, ok := f.Section(name); ok {
			extend(t, tpm, 11, name+"\x00")
			extend(t, tpm, 11, string(data))
		}
	}
	chip := tpmcounter.Open(tpm)
	defer chip.Close()
	pcrs, err := chip.ReadPCRs()
	must(t, err)
	if pcrs.PCR11 != approval.PCR11 {
		t.Fatalf("PCR 11 is %x after the replay, the image's is %x", pcrs.PCR11, approval.PCR11)
	}
	e, err := policy.E()
	must(t, err)
	before, err := chip.Read(e, false)
	must(t, err)

	if _, err := chip.Recall(policy, approval); !errors.Is(err, tpmcounter.ErrUnapproved) || !strings.Contains(err.Error(), "PolicyPCR of 7") {
		t.Errorf("a foreign program asks for the box's secret: %v", err)
	}
	forged := tpmcounter.Expected{Counter: before.Counter, Ledger: tpmcounter.Digest{1}}
	if err := chip.WriteE(policy, approval, forged, false); !errors.Is(err, tpmcounter.ErrUnapproved) || !strings.Contains(err.Error(), "PolicyPCR of 7") {
		t.Errorf("a foreign program writes E: %v", err)
	}
	// With the state that it is in it is another box's policy, for which E and the secret are not.
	policy.PCR7 = pcrs.PCR7
	if _, err := chip.Recall(policy, approval); !errors.Is(err, tpmcounter.ErrSecretPolicy) {
		t.Errorf("a foreign program asks for the box's secret under its own PCR 7: %v", err)
	}
	if err := chip.WriteE(policy, approval, forged, false); err == nil {
		t.Error("a foreign program writes E under its own PCR 7")
	}
	after, err := chip.Read(e, false)
	must(t, err)
	if after.Expected != before.Expected || after.E != before.E {
		t.Errorf("E was %+v and is %+v", before.Expected, after.Expected)
	}
	s.attack(t, rowForeign, "PCR 11 replayed with Secure Boot off", "the TPM refuses the secret and E (PCR 7), E unmoved")
}

// policyOf is what anybody can read: a box's policy from its ledger, and its approval from the image.
func policyOf(t *testing.T, f *uki.File, known ledger.Box) (tpmcounter.Policy, tpmcounter.Approval) {
	t.Helper()
	ring, _, err := keys.Development("")
	must(t, err)
	pems, err := ring.TrustedPEM(keys.Policy)
	must(t, err)
	pair, err := pcrsig.ParseKeys(pems)
	must(t, err)
	section, ok := f.Section(pcrsig.Section)
	if !ok {
		t.Fatal("the image has no signed policy")
	}
	signed, err := pcrsig.Parse(section)
	must(t, err)
	pcr11, err := uki.PCR11(f)
	must(t, err)
	approval, err := signed.Approve(pcr11, pair)
	must(t, err)
	return tpmcounter.Policy{Keys: pair, PCR7: known.PCR7}, approval
}

// extend is what firmware and stub do with a measurement.
func extend(t *testing.T, tpm transport.TPM, pcr uint32, data string) {
	t.Helper()
	d := sha256.Sum256([]byte(data))
	_, err := tpm2.PCRExtend{
		PCRHandle: tpm2.AuthHandle{Handle: tpm2.TPMHandle(pcr), Auth: tpm2.PasswordAuth(nil)},
		Digests:   tpm2.TPMLDigestValues{Digests: []tpm2.TPMTHA{{HashAlg: tpm2.TPMAlgSHA256, Digest: d[:]}}},
	}.Execute(tpm)
	must(t, err)
}

// onESP puts things on the ESP of the machine that uefi left, which its owner has not: a credential, which the stub
// takes and measures, and then a flipped bit in the image that starts first.
func (s *counterSuite) onESP(t *testing.T) {
	o := s.options(t, s.machine("uefi"))
	o.SecureBoot, o.Cert, o.Memory = true, certificate(t), "1536M"
	path := filepath.Join(o.Dir, "disk.img")
	p, err := box.Partition(path, disk.ESPA)
	must(t, err)
	at := fmt.Sprintf("%s@@%d", path, p.Start)
	const folder = "::/EFI/BOOT/BOOTX64.EFI.extra.d"
	credential := filepath.Join(o.Dir, "x.cred")
	must(t, os.WriteFile(credential, []byte("secret=leak"), 0o600))
	tool(t, nil, "mmd", "-i", at, folder)
	tool(t, nil, "mcopy", "-i", at, credential, folder)
	m := boot(t, o)
	next := m.isolated("image-input")
	m.types("power off", `ratchet: stopping`)
	m.ended()
	s.attack(t, rowForeign, "credential on the ESP", "isolated, image-input, secrets sealed")
	seen(t, "credential on the ESP: isolated, image-input, next: %s", next)

	// Written anew, the slot holds nothing but the image, in which one bit differs: now Secure Boot has its say.
	image, err := os.ReadFile(filepath.Join(s.image, builder.SignedFile))
	must(t, err)
	image[len(image)/2] ^= 1
	putImage(t, path, disk.ESPA, image)
	m = boot(t, o)
	line := m.released("clean")
	if u := m.updates(); u.Running != "B" {
		t.Errorf("slot A is damaged: %+v", u)
	}
	m.off()
	s.attack(t, rowIntents, "bit flip in the image of slot A", "the firmware refuses it and starts slot B, released, clean")
	seen(t, "bit flip in slot A: %s", line)
}
