package interrupt

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2/transport"
	"github.com/klauspost/compress/zstd"

	"github.com/ratchetos/ratchet/boot"
	"github.com/ratchetos/ratchet/boot/esp"
	"github.com/ratchetos/ratchet/boot/internal/signtest"
	"github.com/ratchetos/ratchet/boot/internal/tpmtest"
	"github.com/ratchetos/ratchet/boot/ledger"
	"github.com/ratchetos/ratchet/boot/recovery"
	"github.com/ratchetos/ratchet/boot/slot"
	"github.com/ratchetos/ratchet/boot/vault"
	"github.com/ratchetos/ratchet/boot/verdict"
	"github.com/ratchetos/ratchet/hw"
)

const (
	flavour = "full"
	mib     = 1 << 20
	espSize = 34 * mib // the smallest FAT32 with our layout
	nicID   = "mac:52:54:00:00:00:01"
	// flashSize is that of the NIC's firmware.
	flashSize = 4096
)

// box is a machine: disk, TPM, firmware, a NIC with flash memory. It outlives its power.
type box struct {
	t      *testing.T
	rng    *rand.Rand
	mutant mutant
	power  *power
	disk   *disk
	parts  map[string]part
	vars   *variables
	tpm    tpmtest.Machine
	store  *store
	dir    string // of what the simulation does not cut: bundles on STATE, the devices that STATE is mapped to
	signed map[ledger.Digest]*image
	began  time.Time

	running *image
	report  verdict.Report
	core    *core // nil unless it runs
	boots   int   // since the power failed last
	// console counts the boots that stopped in the recovery console, switched those after which the other slot went first.
	console, switched int
	dead              string // why nothing starts
	flashed           bool   // since init looked at the NIC

	talk sync.Mutex // over said
	said []string
}

func newBox(t *testing.T, seed uint64, m mutant) *box {
	t.Helper()
	p := &power{left: -1}
	b := &box{
		t: t, rng: rand.New(rand.NewPCG(seed, 1)), mutant: m, power: p, disk: newDisk(p, 80*mib), parts: map[string]part{},
		vars: &variables{p: p, m: map[string][]byte{}}, tpm: tpmtest.New(t, "simulator"), store: newStore(p), dir: t.TempDir(),
		signed: map[ledger.Digest]*image{}, began: time.Now(),
	}
	at := int64(mib)
	for _, p := range []part{
		{name: "ESP-A", size: espSize},
		{name: "ESP-B", size: espSize},
		{name: "LEDGER", size: ledger.Size},
		{name: "STATE", size: 3 * mib},
		{name: "flash", size: flashSize},
	} {
		p.d, p.at = b.disk, at
		at += p.size
		b.parts[p.name] = p
	}
	first := newImage(t, "1", 1, works)
	b.sign(first)
	for _, name := range slot.Names {
		p := b.parts["ESP-"+name]
		must(t, esp.Write(p, esp.Volume{Size: espSize, Label: p.name}, bytes.NewReader(first.uki), int64(len(first.uki))))
	}
	must(t, ledger.Format(b.parts["LEDGER"], []byte(config(0))))
	b.disk.flush()
	return b
}

func (b *box) sign(i *image) { b.signed[i.digest] = i }

func (b *box) say(format string, args ...any) {
	b.talk.Lock()
	defer b.talk.Unlock()
	b.said = append(b.said, fmt.Sprintf(format, args...))
	b.said = b.said[max(0, len(b.said)-40):]
}

// lastWords are what it said last.
func (b *box) lastWords() []string {
	b.talk.Lock()
	defer b.talk.Unlock()
	return slices.Clone(b.said)
}

func (b *box) guid(name string) string {
	return "11111111-2222-3333-4444-55555555555" + strings.ToLower(name)
}

// holds is the image in a slot, nil for none that may start.
func (b *box) holds(name string) *image {
	i, err := esp.Read(b.parts["ESP-"+name], espSize)
	if err != nil {
		return nil
	}
	return b.signed[ledger.Digest(i.SHA256)]
}

// on is one power-on, to core or to the reason why there is none.
func (b *box) on() {
	b.boots++
	b.flashed = false
	name, i, err := b.start()
	switch {
	case err != nil:
		return
	case i == nil:
		b.dead = "the firmware finds nothing to start"
		return
	}
	b.running = i
	b.say("-- power on: slot %s, image %s, security version %d, %s", name, i.version, i.security, i.fault)
	tpmtest.Boot(b.t, b.tpm, true, "secure boot", i.version)
	if i.fault == diesInKernel {
		return
	}
	// From here to core: boot.Main.
	f := slot.Firmware{Variables: b.vars}
	count, step, _ := f.Begin(b.guid(name))
	var why string
	switch step {
	case slot.Switch:
		b.switched++
		b.say("boot %d without a healthy one: the other slot", count)
		return
	case slot.Recover:
		why = fmt.Sprintf("boot %d without a healthy one", count)
	case slot.Continue:
	}
	if i.fault == diesInInit {
		return
	}
	r := boot.Check(context.Background(), b.machine(name, why))
	if r.End == recovery.Reboot {
		b.console++
		_ = f.SetCount(0) // an operator was there: all tries again
		return
	}
	if off, _ := b.power.cut(); off {
		return
	}
	b.report = r.Report
	if r.Report.Box.Decision != verdict.Released {
		b.dead = fmt.Sprintf("isolated: %s: %s", r.Report.Box.Code, r.Report.Box.Reason)
		return
	}
	if _, err := f.Repair(b.places(), name, bad(r.Report.Images)); err != nil {
		return
	}
	b.startCore(r)
}

func (b *box) places() slot.Slots {
	s := slot.Slots{}
	for n, name := range slot.Names {
		s[name] = slot.Place{GUID: b.guid(name), Number: uint32(n + 1), Start: uint64(b.parts["ESP-"+name].at / sector), Size: espSize / sector}
	}
	return s
}

func bad(images []verdict.Image) map[string]bool {
	m := map[string]bool{}
	for _, i := range images {
		m[i.Slot] = i.Decision != verdict.Released
	}
	return m
}

func (b *box) machine(name, why string) boot.Machine {
	return boot.Machine{
		Policy: boot.Policy{
			Version: b.running.version, Flavour: flavour, TPM: "required", Development: true, RecoveryKey: "DEVELOPMENT-KEY",
			SecurityVersion: b.running.security, PolicyKeys: signtest.Keys(b.t), BundleKeys: []string{signtest.Public(b.t, signtest.Active)},
		},
		Signed: [][]byte{b.running.policy}, BootPart: b.guid(name), RecoveryAsked: why,
		TPM:      func() (transport.TPMCloser, error) { return wire{b.tpm, b}, b.power.read() },
		Hardware: iron{b}, Disks: partitions{b}, Volumes: volumes{b}, StateTemplate: emptyState,
		Open:     func(node string, _ bool) (boot.Medium, error) { return b.initLedger(node), b.power.read() },
		Slots:    func(string, map[string]string) ([]verdict.DiskSlot, error) { return b.diskSlots(), nil },
		OpenSlot: func(node string) (boot.SlotReader, error) { return b.parts[node], b.power.read() },
		Clock:    func() time.Duration { return time.Since(b.began) }, Say: b.say,
		Console: func(_ context.Context, _ *recovery.Console, e boot.Entry) recovery.End {
			if e.Wait > 0 { // an isolated box only offers it
				return recovery.Continue
			}
			return recovery.Reboot
		},
	}
}

func (b *box) diskSlots() (out []verdict.DiskSlot) {
	for name, p := range b.places() {
		out = append(out, verdict.DiskSlot{Name: name, Node: "ESP-" + name, GUID: p.GUID, Number: p.Number, Start: p.Start, Sectors: p.Size})
	}
	if len(out) == 2 && out[0].Name > out[1].Name {
		out[0], out[1] = out[1], out[0]
	}
	return out
}

// iron is a disk behind one controller and a NIC.
type iron struct{ b *box }

func (iron) Freeze() error                   { return nil }
func (iron) MarkBoot(string)                 {}
func (iron) Isolate(string) error            { return nil }
func (iron) HideOthers(string, string) error { return nil }

func (iron) Functions() ([]hw.Device, error) {
	return []hw.Device{{Place: "pci:1", Kind: hw.Disk, Supported: true}, {Place: "pci:2", Kind: hw.NIC, Supported: true}}, nil
}

func (h iron) BindStorage(ctx context.Context, place string) ([]hw.Device, error) {
	return h.Bind(ctx, place)
}

func (h iron) Bind(_ context.Context, place string) ([]hw.Device, error) {
	if place == "pci:1" {
		return []hw.Device{{ID: "serial:boot", Place: place, Kind: hw.Disk, Node: "disk"}}, nil
	}
	b := make([]byte, flashSize)
	if _, err := h.b.parts["flash"].ReadAt(b, 0); err != nil {
		return nil, err
	}
	sum := sha256.Sum256(b)
	return []hw.Device{{ID: nicID, Place: place, Kind: hw.NIC, FirmwareDigest: hex.EncodeToString(sum[:])}}, nil
}

// partitions are those of the disk; nodes have the partitions' names.
type partitions struct{ b *box }

func (p partitions) Partitions(string) (map[string]string, error) {
	return map[string]string{"ESP-A": "ESP-A", "ESP-B": "ESP-B", "LEDGER": "LEDGER", "STATE": "STATE"}, p.b.power.read()
}

func (p partitions) Holds(_, guid string) (string, bool, error) {
	for _, s := range slot.Names {
		if p.b.guid(s) == guid {
			return "ESP-" + s, true, nil
		}
	}
	return "", false, p.b.power.read()
}

// volumes have LUKS2 headers on the disk; what is behind them is a file.
type volumes struct{ b *box }

type volume struct{ part }

func (v volume) Size() (int64, error) { return v.size, nil }

func (v volumes) Open(node string) (boot.Partition, error) {
	return volume{v.b.parts[node]}, v.b.power.read()
}

func (v volumes) Map(_, _ string, m vault.Mapping) (string, error) {
	path := filepath.Join(v.b.dir, hex.EncodeToString(m.Key[:8]))
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return "", err
	}
	return path, errors.Join(f.Truncate(m.Size), f.Close())
}

func (v volumes) Unmap(string) error { return nil }
func (v volumes) Mount(string) error { return nil }
func (v volumes) Unmount() error     { return nil }

// emptyState is a file system of 1 MiB as far as its superblock says.
func emptyState() (io.ReadCloser, error) {
	fs := make([]byte, 4096)
	copy(fs[1028:], []byte{0, 4, 0, 0}) // 1,024 blocks of 1 KiB
	z, err := zstd.NewWriter(nil)
	if err != nil {
		return nil, err
	}
	return io.NopCloser(bytes.NewReader(z.EncodeAll(fs, nil))), nil
}
