package interrupt

import (
	"bytes"
	"crypto/sha256"
	"testing"

	"github.com/ratchetos/ratchet/boot/bundle"
	"github.com/ratchetos/ratchet/boot/internal/signtest"
	"github.com/ratchetos/ratchet/boot/ledger"
)

// fault is how an image dies.
type fault string

const (
	works        fault = ""
	diesInKernel fault = "dies in the kernel" // before init has counted the boot
	diesInInit   fault = "dies in init"       // a panic, or a hang that the watchdog ends
	diesBeforeE  fault = "dies before E"
	diesAfterE   fault = "dies after E"
	unhealthy    fault = "is never healthy"
)

var faults = []fault{diesInKernel, diesInInit, diesBeforeE, diesAfterE, unhealthy}

// image is a UKI that Secure Boot lets start.
type image struct {
	version  string
	security uint
	fault    fault
	uki      []byte
	digest   ledger.Digest
	policy   []byte // signed for its PCR 11
}

func newImage(t *testing.T, version string, security uint, f fault) *image {
	t.Helper()
	i := &image{version: version, security: security, fault: f, policy: signtest.Sign(t, version, security, signtest.Active)}
	word := sha256.Sum256([]byte(version))
	i.uki = bytes.Repeat(word[:], 700) // 44 sectors: enough to be torn
	i.digest = ledger.Sum(i.uki)
	return i
}

// bundle is the update to an image.
func (i *image) bundle(t *testing.T, revokes bool) []byte {
	t.Helper()
	sbom := []byte("{}")
	m := bundle.Manifest{
		Format: bundle.Format, Product: bundle.Product, Flavour: flavour, Arch: "x86_64", Version: i.version,
		SecurityVersion: i.security, Development: true, Revokes: revokes,
		UKI:  bundle.File{Length: int64(len(i.uki)), SHA256: sha256.Sum256(i.uki)},
		SBOM: bundle.File{Length: int64(len(sbom)), SHA256: sha256.Sum256(sbom)},
	}
	var out bytes.Buffer
	text, err := m.Encode()
	must(t, err)
	sig, err := bundle.Sign(text, signtest.Key(t, signtest.Active))
	must(t, err)
	must(t, bundle.Write(&out, text, sig, sbom, bytes.NewReader(i.uki)))
	return out.Bytes()
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
