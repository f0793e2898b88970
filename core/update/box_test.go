package update

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ratchetos/ratchet/boot/attempt"
	"github.com/ratchetos/ratchet/boot/bundle"
	"github.com/ratchetos/ratchet/boot/esp"
	"github.com/ratchetos/ratchet/boot/ledger"
	"github.com/ratchetos/ratchet/boot/slot"
	"github.com/ratchetos/ratchet/boot/verdict"
	"github.com/ratchetos/ratchet/core/state"
)

const slotSize = 40 << 20

// variables is a firmware's memory.
type variables map[string][]byte

func (v variables) Get(name, vendor string) ([]byte, error) {
	b, ok := v[name+vendor]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return b, nil
}

func (v variables) Set(name, vendor string, value []byte) error {
	v[name+vendor] = bytes.Clone(value)
	return nil
}

func (v variables) Delete(name, vendor string) error { delete(v, name+vendor); return nil }

func (v variables) Names(vendor string) ([]string, error) {
	var out []string
	for k := range v {
		if name, ok := strings.CutSuffix(k, vendor); ok {
			out = append(out, name)
		}
	}
	return out, nil
}

// counted plays the counter: attempts stay open until the box restarts.
type counted struct {
	ledger  ledger.Ledger
	open    []ledger.Intent
	floor   uint
	refuses error
}

func (c *counted) Open(_ context.Context, i ledger.Intent) (attempt.Attempt, error) {
	if c.refuses != nil {
		return attempt.Attempt{}, c.refuses
	}
	i.Number = c.ledger.Counter + uint64(len(c.open)) + 1
	c.open = append(c.open, i)
	return attempt.Attempt{Number: i.Number, Open: len(c.open)}, nil
}

func (c *counted) Judge(context.Context) (verdict.Judgement, error) {
	return verdict.Judgement{Verdict: verdict.Verdict{Decision: verdict.Released}, Ledger: &c.ledger, Open: c.open}, nil
}

func (c *counted) RaiseV(_ context.Context, _ []byte, floor uint) error {
	c.floor = max(c.floor, floor)
	return nil
}

// box is an appliance of files: two slots, STATE, variables. Each boot of it makes a new Manager.
type box struct {
	t        *testing.T
	dir      string
	key      *ecdsa.PrivateKey
	vars     variables
	counter  *counted
	store    state.Store
	report   verdict.Report
	clock    time.Duration
	ready    bool
	restarts []string
	said     []string
	*Manager
}

func newBox(t *testing.T) *box {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	b := &box{t: t, dir: t.TempDir(), key: key, vars: variables{}, counter: &counted{}, store: state.NewMemory(), ready: true}
	b.counter.ledger.Counter = 10
	for i, name := range slot.Names {
		node := filepath.Join(b.dir, "slot-"+name)
		must(t, os.WriteFile(node, nil, 0o600))
		must(t, os.Truncate(node, slotSize))
		b.report.BootDisk.Slots = append(b.report.BootDisk.Slots, verdict.DiskSlot{
			Name: name, Node: node, GUID: fmt.Sprintf("11111111-2222-3333-4444-55555555%04d", i), Number: uint32(i + 1), Start: 2048, Sectors: slotSize / 512,
		})
		b.put(name, b.image("1.0"))
	}
	b.boot("A", "1.0", 1)
	must(t, second(slot.Firmware{Variables: b.vars}.Repair(b.places(), "A", nil)))
	return b
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func second(_ bool, err error) error { return err }

// image stands in for a UKI: long enough for several pieces, and different for each version.
func (b *box) image(version string) []byte { return bytes.Repeat([]byte(version+" image\n"), 300_000) }

// put writes a slot as a factory would.
func (b *box) put(name string, image []byte) {
	b.t.Helper()
	f, err := os.OpenFile(filepath.Join(b.dir, "slot-"+name), os.O_RDWR, 0)
	must(b.t, err)
	defer f.Close()
	v := esp.Volume{Size: slotSize, Hidden: 2048, Label: "ESP-" + name}
	must(b.t, esp.Write(f, v, bytes.NewReader(image), int64(len(image))))
}

// holds is the version of a slot's image, or why there is none.
func (b *box) version(name string) string {
	f, err := os.Open(filepath.Join(b.dir, "slot-"+name))
	must(b.t, err)
	defer f.Close()
	i, err := esp.Read(f, slotSize)
	if err != nil {
		return err.Error()
	}
	for _, v := range []string{"1.0", "2.0", "3.0"} {
		if i.SHA256 == sha256.Sum256(b.image(v)) {
			return v
		}
	}
	return "other"
}

// boot plays init: it closes the open attempts by what the slots read, and starts a core.
func (b *box) boot(running, version string, security uint) {
	b.t.Helper()
	l := &b.counter.ledger
	versions := map[string]uint64{}
	for _, i := range l.Images {
		versions[i.Slot] = i.Version
	}
	for _, i := range b.counter.open {
		versions[strings.TrimPrefix(i.Target, "image:")] = i.To.SecurityVersion()
	}
	l.Counter += uint64(len(b.counter.open))
	b.counter.open, l.Images = nil, nil
	r := &b.report
	*r = verdict.Report{
		Box: verdict.Verdict{Decision: verdict.Released}, Image: version, Flavour: "full", Slot: running, Development: true,
		SecurityVersion: security, BundleKeys: []string{b.public()}, BootDisk: r.BootDisk, TPM: verdict.TPM{Floor: b.counter.floor},
	}
	for _, d := range r.BootDisk.Slots {
		f, err := os.Open(d.Node)
		must(b.t, err)
		image, err := esp.Read(f, slotSize)
		f.Close()
		i := verdict.Image{Slot: d.Name, Digest: ledger.Digest(image.SHA256), Version: max(versions[d.Name], 1), Verdict: verdict.Verdict{Decision: verdict.Released}}
		if err != nil {
			i = verdict.Image{Slot: d.Name, Verdict: verdict.Verdict{Decision: verdict.Isolated, Code: "slot-bad"}}
		}
		r.Images = append(r.Images, i)
		l.Images = append(l.Images, ledger.Image{Slot: i.Slot, Digest: i.Digest, Version: i.Version})
	}
	b.start()
}

func (b *box) start() {
	b.Manager = New(Options{
		Report: &b.report, Attempts: b.counter, CoreKey: []byte("core's key"), Firmware: slot.Firmware{Variables: b.vars},
		Dir: filepath.Join(b.dir, "update"), Store: b.store,
		Ready: func() bool { return b.ready }, Clock: func() time.Duration { b.clock += time.Millisecond; return b.clock },
		Restart: func(why string) { b.restarts = append(b.restarts, why) },
		Say:     func(format string, args ...any) { b.said = append(b.said, fmt.Sprintf(format, args...)) },
	})
	b.pause = time.Millisecond
}

func (b *box) public() string {
	der, err := x509.MarshalPKIXPublicKey(b.key.Public())
	must(b.t, err)
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
}

// bundle packs an update; change makes it one that a box refuses.
func (b *box) bundle(version string, security uint, change func(*bundle.Manifest)) []byte {
	b.t.Helper()
	uki, sbom := b.image(version), []byte("{}")
	m := bundle.Manifest{
		Format: bundle.Format, Product: bundle.Product, Flavour: "full", Arch: "x86_64", Version: version, SecurityVersion: security,
		Development: true,
		UKI:         bundle.File{Length: int64(len(uki)), SHA256: sha256.Sum256(uki)},
		SBOM:        bundle.File{Length: int64(len(sbom)), SHA256: sha256.Sum256(sbom)},
	}
	if change != nil {
		change(&m)
	}
	text, err := m.Encode()
	must(b.t, err)
	sig, err := bundle.Sign(text, b.key)
	must(b.t, err)
	var out bytes.Buffer
	must(b.t, bundle.Write(&out, text, sig, sbom, bytes.NewReader(uki)))
	return out.Bytes()
}

const piece = 1 << 20

// upload stages a bundle as ratchetctl does.
func (b *box) upload(data []byte) error {
	for at := 0; at < len(data); at += piece {
		if _, err := b.Stage(int64(at), data[at:min(at+piece, len(data))]); err != nil {
			return err
		}
	}
	return nil
}

func (b *box) apply(req Request) (Result, error) {
	return b.Apply(b.t.Context(), req, func(string, int64, int64) {})
}

func (b *box) install(data []byte) (Result, error) {
	if err := b.upload(data); err != nil {
		return Result{}, err
	}
	return b.apply(Request{Signer: "alice"})
}

// untouched checks that a refused update has changed nothing.
func (b *box) untouched(what string) {
	b.t.Helper()
	if len(b.counter.open) > 0 {
		b.t.Errorf("%s: %d attempts are open", what, len(b.counter.open))
	}
	if a, o := b.version("A"), b.version("B"); a != "1.0" || o != "1.0" {
		b.t.Errorf("%s: slots hold %s and %s", what, a, o)
	}
	if next, err := (slot.Firmware{Variables: b.vars}).Trying(b.places()); next != "" || err != nil {
		b.t.Errorf("%s: slot %s is tried next (%v)", what, next, err)
	}
	if left, err := os.ReadDir(filepath.Join(b.dir, "update")); err == nil && len(left) > 0 {
		b.t.Errorf("%s: %v is left on STATE", what, left)
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		b.t.Error(err)
	}
}

// next is the slot that the firmware starts now; BootNext is used up.
func (b *box) power() string {
	b.t.Helper()
	f := slot.Firmware{Variables: b.vars}
	next, err := f.Trying(b.places())
	must(b.t, err)
	must(b.t, f.Forget())
	if next != "" {
		return next
	}
	front, err := f.Front(b.places())
	must(b.t, err)
	return front
}

// run steps the loop of a boot for so long, without its ticker.
func (b *box) live(d time.Duration) {
	b.t.Helper()
	ctx := b.t.Context()
	b.load(ctx)
	front, err := b.o.Firmware.Front(b.places())
	must(b.t, err)
	h := newHealth(b.o.Times, front != b.report.Slot, b.clock)
	for end := b.clock + d; b.clock < end; {
		b.clock += 10 * time.Second
		b.step(ctx, h, front, 10*time.Second)
	}
}
