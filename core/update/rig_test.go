package update

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"path/filepath"
	"time"

	"github.com/ratchetos/ratchet/boot/attempt"
	"github.com/ratchetos/ratchet/boot/esp"
	"github.com/ratchetos/ratchet/boot/ledger"
	"github.com/ratchetos/ratchet/boot/slot"
	"github.com/ratchetos/ratchet/boot/verdict"
)

// A rig is a box whose disk, firmware and TPM are memory and whose power fails at a step that a seed chooses. What
// runs on it is the program's own: ledger, verdict, esp, slot and this package.

var errPower = errors.New("the power failed")

// power counts what changes something; after the last step everything fails until the next power-on.
type power struct {
	left int // steps until it fails, negative for never
	off  bool
	used int
}

func (p *power) step() error {
	if p.left == 0 {
		p.off = true
	}
	if p.off {
		return errPower
	}
	p.left--
	p.used++
	return nil
}

// platter is a medium that has a volatile cache: what was not synced may be lost, each block by itself.
type platter struct {
	*power
	size   int64
	blocks map[int64][]byte // durable
	cache  map[int64][]byte
}

const platterBlock = 4096

func newPlatter(p *power, size int64) *platter {
	return &platter{p, size, map[int64][]byte{}, map[int64][]byte{}}
}

func (m *platter) block(n int64) []byte {
	if b, ok := m.cache[n]; ok {
		return b
	}
	return m.blocks[n]
}

func (m *platter) ReadAt(b []byte, at int64) (int, error) {
	for n := 0; n < len(b); {
		pos := at + int64(n)
		if pos >= m.size {
			return n, io.EOF
		}
		off := pos % platterBlock
		part := b[n:min(len(b), n+int(platterBlock-off))]
		clear(part)
		if from := m.block(pos / platterBlock); from != nil {
			copy(part, from[off:])
		}
		n += len(part)
	}
	return len(b), nil
}

func (m *platter) WriteAt(b []byte, at int64) (int, error) {
	if err := m.step(); err != nil {
		return 0, err
	}
	for n := 0; n < len(b); {
		pos := at + int64(n)
		off := pos % platterBlock
		next := make([]byte, platterBlock)
		copy(next, m.block(pos/platterBlock))
		n += copy(next[off:], b[n:])
		m.cache[pos/platterBlock] = next
	}
	return len(b), nil
}

func (m *platter) Sync() error {
	if err := m.step(); err != nil {
		return err
	}
	for n, b := range m.cache {
		m.blocks[n] = b
	}
	clear(m.cache)
	return nil
}

// lose is what a power cut does to the cache.
func (m *platter) lose(r *rand.Rand) {
	for n, b := range m.cache {
		if r.IntN(2) == 0 {
			m.blocks[n] = b
		}
	}
	clear(m.cache)
}

func (m *platter) Size() int64  { return m.size }
func (m *platter) Close() error { return nil }

// nvram is the firmware's variables; each write is whole or not at all.
type nvram struct {
	variables
	*power
}

func (v nvram) Set(name, vendor string, value []byte) error {
	if err := v.step(); err != nil {
		return err
	}
	return v.variables.Set(name, vendor, value)
}

func (v nvram) Delete(name, vendor string) error {
	if err := v.step(); err != nil {
		return err
	}
	return v.variables.Delete(name, vendor)
}

// image is what the rig knows of a UKI by its digest.
type image struct {
	version  string
	security uint
	// panics ends each boot of it, sick never gets healthy.
	panics, sick bool
}

type rig struct {
	rand   *rand.Rand
	power  power
	ledger *platter
	slots  map[string]*platter
	vars   nvram
	images map[ledger.Digest]image
	policy ledger.Digest
	// The TPM: C, J, E and V.
	c, expected    uint64
	j, expectedSum ledger.Digest
	floor          uint
	state          *box // STATE and the bundle key
	core           *Manager
	running        string
	restart        bool
	log            []string
}

const rigSlot = 34 << 20

func (r *rig) say(format string, args ...any) { r.log = append(r.log, fmt.Sprintf(format, args...)) }

func newRig(state *box, seed uint64) (*rig, error) {
	r := &rig{rand: rand.New(rand.NewPCG(seed, seed)), state: state, images: map[ledger.Digest]image{}, policy: ledger.Sum([]byte("policy"))}
	r.power.left = -1
	r.ledger, r.vars = newPlatter(&r.power, ledger.Size), nvram{variables{}, &r.power}
	r.slots = map[string]*platter{"A": newPlatter(&r.power, rigSlot), "B": newPlatter(&r.power, rigSlot)}
	if err := ledger.Format(r.ledger, nil); err != nil {
		return nil, err
	}
	uki := r.build(image{version: "0", security: 0})
	for name, p := range r.slots {
		if err := esp.Write(p, esp.Volume{Size: rigSlot, Hidden: 2048, Label: "ESP-" + name}, bytes.NewReader(uki), int64(len(uki))); err != nil {
			return nil, err
		}
	}
	first := &ledger.Ledger{Sequence: 1, Box: ledger.Box{SRK: "srk", Policy: r.policy}}
	for _, name := range slot.Names {
		first.Images = append(first.Images, ledger.Image{Slot: name, Digest: ledger.Sum(uki)})
	}
	sum, err := ledger.Open(r.ledger).WriteLedger(first)
	r.expectedSum = sum
	return r, err
}

// build makes a UKI of some length and notes what it is.
func (r *rig) build(i image) []byte {
	uki := bytes.Repeat([]byte("image "+i.version+"\n"), 1+r.rand.IntN(2000))
	r.images[ledger.Digest(sha256.Sum256(uki))] = i
	return uki
}

func (r *rig) facts() verdict.Facts {
	f := verdict.Facts{Slot: r.running, TPM: verdict.TPMFacts{
		Health: verdict.Healthy, SRK: "srk", Policy: r.policy, FoundPolicy: r.policy,
		C: verdict.IndexWritten, E: verdict.IndexWritten, J: verdict.IndexWritten, V: verdict.IndexWritten,
		Counter: r.c, Journal: r.j, Expected: r.expected, ExpectedLedger: r.expectedSum, Floor: r.floor,
	}}
	c, err := ledger.Open(r.ledger).Load()
	f.Ledger = verdict.LedgerFacts{Health: verdict.Healthy, Contents: c}
	if err != nil {
		f.Ledger = verdict.LedgerFacts{Health: verdict.LedgerDamaged, Detail: err.Error()}
	}
	return f
}

// Open implements Attempts in the order of attempt.Manager.
func (r *rig) Open(_ context.Context, i ledger.Intent) (attempt.Attempt, error) {
	j := verdict.Judge(r.facts())
	if !j.Released() {
		return attempt.Attempt{}, errors.New(j.Reason)
	}
	if j.Ahead {
		if err := r.power.step(); err != nil {
			return attempt.Attempt{}, err
		}
		r.c++
	}
	i.Number = r.c + 1
	d, err := ledger.Open(r.ledger).WriteIntent(i)
	if err == nil {
		err = r.power.step()
	}
	if err != nil {
		return attempt.Attempt{}, err
	}
	r.j = ledger.Chain(r.j, d)
	if err := r.power.step(); err != nil {
		return attempt.Attempt{}, err
	}
	r.c++
	return attempt.Attempt{Number: r.c}, nil
}

// Judge implements Attempts.
func (r *rig) Judge(context.Context) (verdict.Judgement, error) { return verdict.Judge(r.facts()), nil }

// RaiseV implements Attempts.
func (r *rig) RaiseV(_ context.Context, _ []byte, floor uint) error {
	if err := r.power.step(); err != nil {
		return err
	}
	r.floor = max(r.floor, floor)
	return nil
}

// holds is the image in a slot that firmware would start: laid out whole and signed.
func (r *rig) holds(name string) (image, ledger.Digest, bool) {
	i, err := esp.Read(r.slots[name], rigSlot)
	if err != nil {
		return image{}, ledger.Digest{}, false
	}
	known, ok := r.images[ledger.Digest(i.SHA256)]
	return known, ledger.Digest(i.SHA256), ok
}

func rigPlaces() slot.Slots {
	s := slot.Slots{}
	for i, name := range slot.Names {
		s[name] = slot.Place{GUID: fmt.Sprintf("11111111-2222-3333-4444-55555555%04d", i), Number: uint32(i + 1), Start: 2048, Size: rigSlot / 512}
	}
	return s
}

// choose is the firmware: BootNext once, then the order, then any partition that has a program.
func (r *rig) choose() string {
	f, places := slot.Firmware{Variables: r.vars.variables}, rigPlaces()
	next, _ := f.Trying(places)
	_ = f.Forget()
	e, _ := f.Entries()
	candidates := []string{next, e.Front(places), "A", "B"}
	for _, name := range candidates {
		if name == "" {
			continue
		}
		if _, _, ok := r.holds(name); ok {
			return name
		}
	}
	return ""
}

// boot is one start of the machine: what it came to, and whether it goes on to another.
func (r *rig) boot() (outcome string, again bool, err error) {
	r.running, r.restart = r.choose(), false
	if r.running == "" {
		return "nothing to boot", false, nil
	}
	i, _, _ := r.holds(r.running)
	f := slot.Firmware{Variables: r.vars}
	_, step, err := f.Begin(rigPlaces()[r.running].GUID)
	switch {
	case err != nil:
		return "", true, err
	case step == slot.Switch:
		return "switch", true, nil
	case step == slot.Recover:
		return "console", false, nil
	case i.panics:
		return "panic", true, nil
	case i.security < r.floor:
		return "revoked", false, nil
	}
	report, err := r.init(i)
	if err != nil || report == nil {
		return "isolated", err != nil, err
	}
	if _, err := f.Repair(rigPlaces(), r.running, bad(report.Images)); err != nil {
		return "", true, err
	}
	return r.live(i, report)
}

func bad(images []verdict.Image) map[string]bool {
	out := map[string]bool{}
	for _, i := range images {
		out[i.Slot] = i.Decision != verdict.Released
	}
	return out
}

// init judges, reads the slots that matter, and closes.
func (r *rig) init(i image) (*verdict.Report, error) {
	f := r.facts()
	f.Approval = &verdict.Approval{Version: i.security}
	j := verdict.Judge(f)
	if !j.Released() {
		r.say("isolated: %s: %s", j.Code, j.Reason)
		return nil, nil
	}
	for _, name := range j.ImagesToRead() {
		c := verdict.SlotContent{Slot: name}
		image, err := esp.Read(r.slots[name], rigSlot)
		if c.Digest = ledger.Digest(image.SHA256); err != nil {
			c.Err, c.Digest = err.Error(), ledger.Digest{}
		}
		f.Images = append(f.Images, c)
	}
	o := verdict.Settle(f, j, nil)
	if o.Next != nil {
		sum, err := ledger.Open(r.ledger).WriteLedger(o.Next)
		if err == nil {
			err = r.power.step()
		}
		if err != nil {
			return nil, err
		}
		r.expected, r.expectedSum = o.Next.Counter, sum
	}
	report := &verdict.Report{
		Box: j.Verdict, Image: i.version, Flavour: "full", Slot: r.running, Development: true, SecurityVersion: i.security,
		BundleKeys: []string{r.state.public()}, TPM: verdict.TPM{Floor: r.floor}, Images: o.Images,
	}
	places := rigPlaces()
	for _, name := range slot.Names {
		p := places[name]
		report.BootDisk.Slots = append(report.BootDisk.Slots, verdict.DiskSlot{Name: name, Node: name, GUID: p.GUID, Number: p.Number, Start: p.Start, Sectors: p.Size})
	}
	return report, nil
}

// live is core until the boot is healthy, or restarts.
func (r *rig) live(i image, report *verdict.Report) (string, bool, error) {
	var clock time.Duration
	r.core = New(Options{
		Report: report, Attempts: r, CoreKey: []byte("key"), Firmware: slot.Firmware{Variables: r.vars}, Store: r.state.store,
		Dir: filepath.Join(r.state.dir, "update"), Ready: func() bool { return !i.sick },
		Open:    func(node string, _ bool) (Slot, error) { return r.slots[node], nil },
		Restart: func(string) { r.restart = true }, Clock: func() time.Duration { return clock },
		Say: r.say,
	})
	ctx := context.Background()
	r.core.load(ctx)
	front, err := r.core.o.Firmware.Front(r.core.places())
	if err != nil {
		return "", true, err
	}
	h := newHealth(r.core.o.Times, front != "" && front != r.running, clock)
	for range 40 {
		clock += 10 * time.Second
		r.core.step(ctx, h, front, 10*time.Second)
		if r.power.off {
			return "", true, errPower
		}
		if r.restart {
			return "trial failed", true, nil
		}
	}
	return "runs", false, nil
}

// powerOn starts the machine until it stays, after a power cut or a restart. A cut that is still to come may come in
// it; then the error is errPower.
func (r *rig) powerOn() (string, error) {
	if r.power.off {
		r.power.off, r.power.left = false, -1
		for _, p := range []*platter{r.ledger, r.slots["A"], r.slots["B"]} {
			p.lose(r.rand)
		}
	}
	for range 12 {
		outcome, again, err := r.boot()
		r.say("boot of slot %s: %s %v", r.running, outcome, err)
		if r.power.off {
			return "", errPower
		}
		if err != nil || !again {
			return outcome, err
		}
	}
	return "", errors.New("the box starts again and again")
}
