package systems

import (
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/ratchetos/ratchet/boot/ledger"
	"github.com/ratchetos/ratchet/image/disk"
	"github.com/ratchetos/ratchet/qemu/box"
)

// medium is LEDGER inside of a disk image.
type medium struct {
	io.ReaderAt
	io.WriterAt
	file *os.File
}

var _ ledger.Medium = medium{}

// Sync implements ledger.Medium.
func (m medium) Sync() error { return m.file.Sync() }

// onLedger lets a test at the LEDGER of a machine that is switched off, with the code that the box writes it with:
// an attacker has it too.
func onLedger(t *testing.T, dir string, do func(ledger.Medium)) {
	t.Helper()
	path := filepath.Join(dir, "disk.img")
	p, err := box.Partition(path, disk.Ledger)
	must(t, err)
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	must(t, err)
	defer f.Close()
	do(medium{io.NewSectionReader(f, p.Start, p.Size), io.NewOffsetWriter(f, p.Start), f})
}

// intents leaves two attempts open and edits what LEDGER says of them while the box is off.
func (s *counterSuite) intents(t *testing.T) {
	t.Parallel()
	open := s.machine("open")
	must(t, box.Clone(open, s.machine("life")))
	m := boot(t, s.options(t, open))
	m.released("clean")
	n := number(t, m.counter().Counter)
	m.apply(s.config(t, "fourth"))
	m.apply(s.config(t, "fifth"))
	m.counts(text(n+2), text(n), "2")
	m.off()

	for _, a := range []struct {
		name, code string
		extra      bool
		do         func(t *testing.T, m ledger.Medium, ring ledger.Ring)
	}{
		{"last intent missing", "intent-missing", true, func(t *testing.T, m ledger.Medium, _ ledger.Ring) {
			_, err := m.WriteAt(make([]byte, ringEntry), entryAt(n+2))
			must(t, err)
		}},
		{"intent forged, its checksum right", "intent-unchained", false, func(t *testing.T, m ledger.Medium, ring ledger.Ring) {
			i := ring.Intents[uint64(n+2)]
			i.Signer = "somebody else"
			_, err := ledger.Open(m).WriteIntent(i)
			must(t, err)
		}},
		{"intents reordered", "intent-unchained", true, func(t *testing.T, m ledger.Medium, ring ledger.Ring) {
			a, b := ring.Intents[uint64(n+1)], ring.Intents[uint64(n+2)]
			a.Number, b.Number = b.Number, a.Number
			for _, i := range []ledger.Intent{a, b} {
				_, err := ledger.Open(m).WriteIntent(i)
				must(t, err)
			}
		}},
		{"bit flip in an intent", "intent-missing", true, func(t *testing.T, m ledger.Medium, _ ledger.Ring) {
			flip(t, m, entryAt(n+1)+60)
		}},
	} {
		if a.extra && testing.Short() {
			continue
		}
		t.Run(a.name, func(t *testing.T) {
			t.Parallel()
			dir := s.machine(folder(a.name))
			must(t, box.Clone(dir, open))
			onLedger(t, dir, func(m ledger.Medium) {
				c, err := ledger.Open(m).Load()
				must(t, err)
				a.do(t, m, c.Ring)
			})
			m := boot(t, s.options(t, dir))
			next := m.isolated(a.code)
			must(t, m.Close())
			s.attack(t, rowIntents, a.name, "isolated, %s", a.code)
			seen(t, "%s: isolated, %s, next: %s", a.name, a.code, next)
		})
	}
}

// The ring's place is that of boot/ledger/doc.go.
const ringEntry = 1024

func entryAt(n int) int64 { return 0x100000 + int64(n%1024)*ringEntry }

// readWriter is a medium of which a test changes a few bytes.
type readWriter interface {
	io.ReaderAt
	io.WriterAt
}

// flip changes one bit.
func flip(t *testing.T, m readWriter, at int64) {
	t.Helper()
	b := make([]byte, 1)
	_, err := m.ReadAt(b, at)
	must(t, err)
	b[0] ^= 0x10
	_, err = m.WriteAt(b, at)
	must(t, err)
}
