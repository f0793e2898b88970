package boot

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/ratchetos/ratchet/boot/counter"
	"github.com/ratchetos/ratchet/boot/pcrsig"
	"github.com/ratchetos/ratchet/boot/verdict"
)

// Files in the initramfs with signed PCR policies. The stub adds the first, from a section that is not
// measured; the second is in development images only, for direct kernel boots, which have no stub.
const (
	stubSigned   = "/.extra/tpm2-pcr-signature.json"
	directSigned = "/etc/ratchet/direct.pcrsig"
)

// readSigned reads both; one that is missing or cannot be read is one that was not signed.
func readSigned(root string) [][]byte {
	var all [][]byte
	for _, name := range []string{stubSigned, directSigned} {
		f, err := os.Open(filepath.Join(root, name))
		if err != nil {
			continue
		}
		b, err := io.ReadAll(io.LimitReader(f, pcrsig.MaxSize+1))
		if err = errors.Join(err, f.Close()); err == nil {
			all = append(all, b)
		}
	}
	return all
}

// approve finds the signed policy of the image that was measured, and says what the TPM will make of
// it. The TPM is not asked here: it has the last word when E is written or something is unsealed.
func (c *check) approve() *verdict.Approval {
	c.box.PCR7 = c.pcrs.PCR7
	a := &verdict.Approval{
		Version: c.Policy.SecurityVersion,
		Input:   c.pcrs.PCR12 != counter.Digest{} || c.pcrs.PCR13 != counter.Digest{},
	}
	var err error
	if c.box.Keys, err = pcrsig.ParseKeys(c.Policy.PolicyKeys); err == nil {
		c.approval, err = approval(c.Signed, c.pcrs.PCR11, c.box.Keys)
	}
	switch {
	case err != nil:
		a.Problem = err.Error()
	case c.approval.Version != c.Policy.SecurityVersion:
		a.Problem = fmt.Sprintf("security version %d was signed, the image says %d", c.approval.Version, c.Policy.SecurityVersion)
	}
	return a
}

// approval is the first that fits; of several that do not, the first says why.
func approval(signed [][]byte, pcr11 counter.Digest, keys counter.Keys) (counter.Approval, error) {
	var first error
	for _, b := range signed {
		f, err := pcrsig.Parse(b)
		if err == nil {
			var a counter.Approval
			if a, err = f.Approve(pcr11, keys); err == nil {
				return a, nil
			}
		}
		if first == nil {
			first = err
		}
	}
	if first == nil {
		first = errors.New("the image brought no signed policy (section " + pcrsig.Section + ")")
	}
	return counter.Approval{}, first
}
