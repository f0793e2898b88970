package systems

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ratchetos/ratchet/image/builder"
	"github.com/ratchetos/ratchet/image/disk"
	"github.com/ratchetos/ratchet/image/keys"
	"github.com/ratchetos/ratchet/image/release"
	"github.com/ratchetos/ratchet/image/uki"
	"github.com/ratchetos/ratchet/qemu/box"
)

// release is the life of a box that was bought: a release signed with a vendor's own keys is put on a machine whose
// firmware has none, its console enrolls the keys and provisions the box, and from then on it starts by itself and
// nothing else does. docs/howto/make-a-release.md and docs/howto/own-keys.md say the same in words. At last somebody
// clears the TPM and puts the factory's disk back: a box like on the first day, which waits for its operator.
func (s *counterSuite) release(t *testing.T) {
	t.Parallel()
	dir, image := s.machine("release"), s.image
	must(t, os.MkdirAll(dir, 0o755))
	ring, err := keys.Create(filepath.Join(dir, "keys"), "Example")
	must(t, err)
	out := filepath.Join(dir, "files")
	_, err = release.Make(within(t, 9*time.Minute), release.Options{
		Version: "v0.0.1-test", Out: out,
		Build: builder.Options{Flavour: "full", Keys: ring, Binary: filepath.Join(image, builder.ApplianceFile)},
	})
	must(t, err)
	o := box.Options{Image: image, Dir: dir, SetupMode: true, CPUs: sideBySide}
	unpack(t, filepath.Join(out, "ratchet-v0.0.1-test-full.img.zst"), filepath.Join(o.Dir, "disk.img"))

	m := boot(t, o)
	expect := func(pattern string) []string {
		t.Helper()
		match, err := m.ExpectLine(within(t, bootLimit), pattern)
		must(t, err)
		return match.Groups
	}
	expect(`image v0\.0\.1-test \(full kernel, release\)`)
	expect(`Recovery console: the box is unprovisioned, and its firmware takes Secure Boot keys`)
	expect(`1  enroll  `)
	must(t, m.SendLine("enroll"))
	expect(`db   "Example Secure Boot key"`)
	expect(`PK   "Example platform key"`)
	must(t, m.SendLine("enroll"))
	expect(`the keys are in the firmware`)

	expect(`type "provision" within`)
	must(t, m.SendLine("provision"))
	key := expect(`RECOVERY KEY, shown once, write it down: ([A-Z2-7-]{39})`)[1]
	seen(t, "keys enrolled from the console, provisioned: %s", m.released("provisioned"))
	if strings.Count(said(m), key) != 1 {
		t.Error("the recovery key was shown more than once")
	}
	m.types("counter show", `Secure Boot on`)
	m.types("power off", `ratchet: stopping`)
	m.ended()

	m = boot(t, o)
	seen(t, "again, by itself: %s", m.released("clean"))
	if strings.Contains(said(m), key) || strings.Contains(said(m), "type \"") {
		t.Error("the second boot asks, or shows the recovery key")
	}
	m.types("power off", `ratchet: stopping`)
	m.ended()

	// Nothing is left of the box but what its firmware knows.
	emptyTPM(t, dir)
	unpack(t, filepath.Join(out, "ratchet-v0.0.1-test-full.img.zst"), filepath.Join(o.Dir, "disk.img"))
	m = boot(t, o)
	expect(`type "provision" within`)
	must(t, m.SendLine("no"))
	m.verdict("ISOLATED", "unprovisioned")
	must(t, m.Close())
	s.attack(t, rowCleared, "TPM cleared and factory disk restored, release image", "isolated, unprovisioned, until the operator types provision")

	// The same machine with the same code, but without the signature.
	signed, err := os.ReadFile(filepath.Join(out, "ratchet-v0.0.1-test-full.efi"))
	must(t, err)
	f, err := uki.Parse(signed)
	must(t, err)
	unsigned, err := f.WithCertificates(nil)
	must(t, err)
	must(t, disk.Write(filepath.Join(o.Dir, "disk.img"), disk.Options{UKI: unsigned}))
	m = boot(t, o)
	expect(`Access Denied`)
	must(t, m.Close())
	s.attack(t, rowSecureBoot, "release without its signature, own keys enrolled", "the firmware refuses it")
}

// unpack undoes a release's compressed disk.
func unpack(t *testing.T, from, to string) {
	t.Helper()
	must(t, os.MkdirAll(filepath.Dir(to), 0o755))
	in, err := os.Open(from)
	must(t, err)
	defer in.Close()
	f, err := os.Create(to)
	must(t, err)
	must(t, builder.Decompress(f, in))
	must(t, f.Close())
}

// said is everything the machine has said.
func said(m *machine) string {
	var b strings.Builder
	for _, l := range m.Console() {
		b.WriteString(l.Text + "\n")
	}
	return b.String()
}
