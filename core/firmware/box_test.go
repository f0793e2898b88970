package firmware

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/ratchetos/ratchet/boot/attempt"
	"github.com/ratchetos/ratchet/boot/bundle"
	"github.com/ratchetos/ratchet/boot/ledger"
	"github.com/ratchetos/ratchet/boot/verdict"
	"github.com/ratchetos/ratchet/core/inventory"
	"github.com/ratchetos/ratchet/core/state"
	"github.com/ratchetos/ratchet/hw"
	fw "github.com/ratchetos/ratchet/hw/firmware"
	"github.com/ratchetos/ratchet/hw/sim"
)

// box is an appliance around real simulated devices, the real inventory and the verdict's real engine;
// only TPM and LEDGER are a list of intents.
type box struct {
	*Manager
	t       *testing.T
	dir     string
	boots   int
	devices []hw.Device // by place
	ledger  *ledger.Ledger
	open    []ledger.Intent
	refuse  error // of Open
	inv     *inventory.Inventory
	report  verdict.Report
	mute    bool // devices do not tell what the next reset activates
}

var (
	_ Hardware           = (*box)(nil)
	_ inventory.Hardware = (*box)(nil)
)

// attempts keeps the names of Hardware's and Attempts' methods apart.
type attempts struct{ *box }

func newBox(t *testing.T, devices map[string]sim.Options) *box {
	b := &box{t: t, dir: t.TempDir(), ledger: &ledger.Ledger{}}
	for _, place := range slices.Sorted(maps.Keys(devices)) {
		b.add(place, devices[place])
	}
	b.boot(true)
	return b
}

// add plugs a device in; its serial is its place.
func (b *box) add(place string, o sim.Options) {
	b.t.Helper()
	node := filepath.Join(b.dir, place)
	f, err := os.Create(node)
	if err == nil {
		err = errors.Join(f.Truncate(o.Size()), sim.Format(f, o), f.Close())
	}
	if err != nil {
		b.t.Fatal(err)
	}
	b.devices = append(b.devices, hw.Device{
		ID: "serial:" + place, Place: "pci:0000:00:" + place, Kind: hw.Simulated, Serial: place, Bus: "virtio",
		Vendor: "1af4", Product: "1042", Model: "simulated device", Supported: true, Node: node, Driver: "virtio-pci",
	})
}

// boot is init: every device is bound, read back and judged, what is open is closed, what is not
// released loses its driver.
func (b *box) boot(provision bool) verdict.Outcome {
	b.t.Helper()
	b.boots++
	j := b.judgement()
	if provision {
		j.Action = verdict.Provision
	}
	var seen []verdict.Observed
	for i := range b.devices {
		b.devices[i].Driver = "virtio-pci"
		r, err := b.read(b.devices[i])
		seen = append(seen, observed(b.devices[i], r, err))
	}
	out := verdict.Settle(verdict.Facts{Development: true}, j, seen)
	if out.Next != nil {
		b.ledger, b.open = out.Next, nil
	}
	b.report = verdict.Report{Box: verdict.Verdict{Decision: verdict.Released}, Devices: out.Devices}
	for _, v := range out.Devices {
		if v.Decision != verdict.Released {
			b.errors(b.Isolate(v.Place))
		}
	}
	b.inv = inventory.New(b, &b.report)
	store, err := state.Open(filepath.Join(b.t.TempDir(), "core.db"))
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { store.Close() })
	b.Manager = New(Options{Devices: b.inv, Hardware: b, Attempts: attempts{b}, Store: store})
	return out
}

func (b *box) errors(err error) {
	b.t.Helper()
	if err != nil && !errors.Is(err, errNowhere) {
		b.t.Fatal(err)
	}
}

func (b *box) judgement() verdict.Judgement {
	j := verdict.Judgement{Ledger: b.ledger, Open: b.open, ConfigSlot: -1}
	j.Decision, j.Code = verdict.Released, "clean"
	return j
}

func (b *box) read(d hw.Device) (fw.Reading, error) {
	f, err := b.Firmware(d)
	if err != nil {
		return fw.Reading{}, err
	}
	defer f.Close()
	return f.ReadBack(b.t.Context())
}

func (b *box) Firmware(d hw.Device) (fw.Firmware, error) {
	if d.Driver == "" {
		return nil, errors.New("no driver is bound")
	}
	f, err := sim.Open(d.Node, fmt.Sprint("boot ", b.boots))
	if b.mute && err == nil {
		return mute{f}, nil
	}
	return f, err
}

// mute is a device whose driver tells only what runs.
type mute struct{ fw.Firmware }

func (m mute) ReadBack(ctx context.Context) (fw.Reading, error) {
	r, err := m.Firmware.ReadBack(ctx)
	r.Next = ""
	return r, err
}

var errNowhere = errors.New("nothing is there")

func (b *box) at(place string) (*hw.Device, error) {
	for i := range b.devices {
		if b.devices[i].Place == place {
			return &b.devices[i], nil
		}
	}
	return nil, errNowhere
}

func (b *box) Bind(_ context.Context, place string) ([]hw.Device, error) {
	d, err := b.at(place)
	if err != nil {
		return nil, err
	}
	d.Driver = "virtio-pci"
	bound := *d
	r, err := b.read(bound)
	if err != nil {
		bound.FirmwareErr = err.Error()
	}
	bound.Firmware, bound.FirmwareDigest = r.Version, hex.EncodeToString(r.Digest[:])
	return []hw.Device{bound}, nil
}

func (b *box) Isolate(place string) error {
	d, err := b.at(place)
	if err == nil {
		d.Driver = ""
	}
	return err
}

func (b *box) Inventory() ([]hw.Device, error) {
	var out []hw.Device
	for _, d := range b.devices {
		if d.Driver == "" { // as sysfs shows it: a bare function
			d = hw.Device{ID: d.Place, Place: d.Place, Kind: hw.Disk, Supported: true}
		}
		out = append(out, d)
	}
	return out, nil
}

func (a attempts) Open(_ context.Context, i ledger.Intent) (attempt.Attempt, error) {
	b := a.box
	if b.refuse != nil {
		return attempt.Attempt{}, b.refuse
	}
	i.Number = b.ledger.Counter + uint64(len(b.open)) + 1
	b.open = append(b.open, i)
	return attempt.Attempt{Number: i.Number, Open: len(b.open)}, nil
}

func (a attempts) Judge(context.Context) (verdict.Judgement, error) { return a.judgement(), nil }

// tool runs what a test does to a device behind the box's back.
func (b *box) tool(place string, do func(*sim.Device) error) {
	b.t.Helper()
	d, err := sim.Open(filepath.Join(b.dir, place), fmt.Sprint("boot ", b.boots))
	if err == nil {
		err = errors.Join(do(d), d.Close())
	}
	if err != nil {
		b.t.Fatal(err)
	}
}

var vendor = func() *ecdsa.PrivateKey {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	return k
}()

// packed is a package of the vendor's for a model of the catalogue, with an image of a version for a
// model of package sim.
func packed(t *testing.T, models []string, model, version string) []byte {
	t.Helper()
	image := sim.Image(model, version, 200_000)
	text, err := bundle.DeviceManifest{
		Models: models, Versions: map[string]string{"": version},
		Image: bundle.File{Length: int64(len(image)), SHA256: sha256.Sum256(image)},
	}.Encode()
	if err != nil {
		t.Fatal(err)
	}
	sig, err := bundle.Sign(text, vendor)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := bundle.WriteDevice(&out, text, sig, bytes.NewReader(image)); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func pack(t *testing.T, version string) *Package {
	t.Helper()
	b := packed(t, []string{"simulated device"}, "sim", version)
	p, err := OpenPackage(bytes.NewReader(b), int64(len(b)), bundle.Keys{&vendor.PublicKey})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// verdictOn is what the last boot said of a device.
func (b *box) verdictOn(id string) verdict.Verdict {
	b.t.Helper()
	for _, d := range b.report.Devices {
		if d.ID == id {
			return d.Verdict
		}
	}
	b.t.Fatalf("no verdict on %s in %v", id, b.report.Devices)
	return verdict.Verdict{}
}
