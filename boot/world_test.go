package boot

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/ratchetos/ratchet/boot/attempt"
	"github.com/ratchetos/ratchet/boot/counter"
	"github.com/ratchetos/ratchet/boot/internal/signtest"
	"github.com/ratchetos/ratchet/boot/internal/tpmtest"
	"github.com/ratchetos/ratchet/boot/ledger"
	"github.com/ratchetos/ratchet/boot/recovery"
	"github.com/ratchetos/ratchet/boot/verdict"
	"github.com/ratchetos/ratchet/hw"
)

const (
	bootPlace = "pci:0000:00:04.0"
	diskPlace = "pci:0000:00:05.0"
	nicPlace  = "pci:0000:00:03.0"
	config1   = "host: one\n"
	config2   = "host: two\n"
)

// iron is hardware made of maps. It knows what is bound, as sysfs would.
type iron struct {
	mu     sync.Mutex
	order  []string
	behind map[string][]hw.Device
	bound  map[string]bool
	frozen bool
	panics bool
	// nonsense is what the list of hardware gives.
	nonsense bool
	stuck    bool            // Isolate panics
	hidden   map[string]bool // nodes out of the kernel
	fails    map[string]error
	tried    []string // places given to BindStorage
}

var _ Hardware = (*iron)(nil)

func (h *iron) Freeze() error     { h.frozen = true; return nil }
func (h *iron) MarkBoot(_ string) {}

func (h *iron) Functions() ([]hw.Device, error) {
	if h.nonsense {
		panic("the bus gave nonsense")
	}
	if !h.frozen {
		return nil, errors.New("hardware was looked at before it was frozen")
	}
	var out []hw.Device
	for _, place := range h.order {
		d := hw.Device{ID: place, Place: place, Supported: true, Kind: hw.NIC}
		if len(h.behind[place]) > 0 {
			d.Kind, d.Bus = h.behind[place][0].Kind, h.behind[place][0].Bus
		} else {
			d.Supported, d.Why = false, "not in the catalogue"
		}
		out = append(out, d)
	}
	return out, nil
}

func (h *iron) BindStorage(ctx context.Context, place string) ([]hw.Device, error) {
	h.mu.Lock()
	h.tried = append(h.tried, place)
	for p, b := range h.bound {
		if b && p != place {
			h.mu.Unlock()
			return nil, fmt.Errorf("%s is bound too: one storage controller at a time", p)
		}
	}
	h.mu.Unlock()
	return h.Bind(ctx, place)
}

func (h *iron) Bind(_ context.Context, place string) ([]hw.Device, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.panics && place == nicPlace {
		panic("driver gave nonsense")
	}
	if err := h.fails[place]; err != nil {
		return nil, err
	}
	if h.bound[place] {
		clear(h.hidden) // bound a second time: released
	}
	h.bound[place] = true
	return h.behind[place], nil
}

func (h *iron) HideOthers(place, node string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, d := range h.behind[place] {
		if d.Node != node {
			h.hidden[d.Node] = true
		}
	}
	return nil
}

func (h *iron) Isolate(place string) error {
	if h.stuck {
		panic("the driver does not let go")
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.bound[place] = false
	return nil
}

// gpt is a Disks with one boot disk.
type gpt struct{ ledger, state, data, rescue string }

func (g gpt) Partitions(node string) (map[string]string, error) {
	if node == "/dev/sdz" && g.rescue != "" {
		return map[string]string{partRescue: g.rescue}, nil
	}
	if node != "/dev/vda" {
		return nil, nil
	}
	return map[string]string{"LEDGER": g.ledger, "STATE": g.state, "DATA": g.data, "ESP-A": "/dev/vda1"}, nil
}

func (g gpt) Holds(node, guid string) (string, bool, error) {
	if g.rescue != "" { // the firmware started the image from the stick
		return partRescue, node == "/dev/sdz" && guid == "boot-guid", nil
	}
	return "ESP-A", node == "/dev/vda" && guid == "boot-guid", nil
}

// world is a box on a bench: TPM, LEDGER in a file, hardware, an image.
type world struct {
	t      *testing.T
	tpm    tpmtest.Machine
	path   string
	iron   *iron
	policy Policy
	// signers sign the image's PCR policy, unless signed stands in its place.
	signers []string
	signed  [][]byte
	off     bool   // Secure Boot
	input   uint32 // PCR that the stub measures something from the ESP into, 0 for none
	uefi    bool
	answer  func(string) bool // the operator
	said    strings.Builder
	wire    transport.TPM // between init and TPM; nil is direct
	noTPM   bool
	medium  func(Medium) Medium
	hint    string // of the controller
	// volumes open state and data; nil leaves these alone.
	volumes     *files
	state, data string
	// console is who sits at the recovery console, and asked why it is entered; see types.
	console func(context.Context, *recovery.Console, Entry) recovery.End
	asked   string
	screen  strings.Builder
	// slots are the image slots, cut after how many writes to one the power fails, stick a file with what is on the
	// stick in a USB port, rescueNode the image slot on it if the box is started from there.
	slots      []verdict.DiskSlot
	cut        *int
	stick      string
	rescueNode string
	// enrollment is there when the firmware takes keys.
	enrollment Enrollment
	// fetched is what a server gives; nil is a server that does not answer.
	fetched []byte
}

func newWorld(t *testing.T, kind string) *world {
	w := &world{
		t: t, tpm: tpmtest.New(t, kind), path: filepath.Join(t.TempDir(), "ledger"), uefi: true,
		policy: Policy{
			Version: "1.0", Flavour: "full", TPM: "required", Development: true, RecoveryKey: "DEV-KEY", PolicyKeys: signtest.Keys(t),
		},
		signers: []string{signtest.Active}, state: "/dev/vda4",
	}
	w.iron = &iron{order: []string{nicPlace, bootPlace, diskPlace, "pci:0000:00:09.0"}, behind: map[string][]hw.Device{
		nicPlace:  {{ID: "mac:52:54:00:00:00:01", Place: nicPlace, Kind: hw.NIC, Firmware: "1.2"}},
		bootPlace: {{ID: "serial:boot", Place: bootPlace, Kind: hw.Disk, Node: "/dev/vda"}},
		diskPlace: {{ID: "serial:data", Place: diskPlace, Kind: hw.Disk, Serial: "data", Node: "/dev/vdb"}},
	}}
	w.format()
	return w
}

func (w *world) format() {
	w.t.Helper()
	f, err := os.Create(w.path)
	if err == nil {
		err = errors.Join(ledger.Format(f, []byte(config1)), f.Close())
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

// editSlot opens a slot whose power may fail.
func (w *world) editSlot(node string) (SlotWriter, error) {
	s, err := editSlot(node)
	if err == nil && w.cut != nil {
		left := *w.cut
		s = cutSlot{s, &left}
	}
	return s, err
}

type closer struct{ transport.TPM }

func (closer) Close() error { return nil }

// boot resets the machine and runs init up to the cap. The image measures what its version is.
func (w *world) boot() Result {
	w.t.Helper()
	w.reset()
	return w.check()
}

// reset is what happens before init: firmware and stub measure.
func (w *world) reset() {
	w.t.Helper()
	tpmtest.Boot(w.t, w.tpm, false, map[bool]string{false: "secure boot", true: "off"}[w.off], w.policy.Version)
	if w.input != 0 {
		tpmtest.Extend(w.t, w.tpm, w.input, "from the ESP")
	}
}

func (w *world) check() Result {
	w.iron.bound, w.iron.hidden, w.iron.frozen = map[string]bool{}, map[string]bool{}, false
	w.iron.tried = nil
	w.said.Reset()
	var wire transport.TPM = w.tpm
	if w.wire != nil {
		wire = w.wire
	}
	signed := w.signed
	if signed == nil {
		signed = [][]byte{signtest.Sign(w.t, w.policy.Version, w.policy.SecurityVersion, w.signers...)}
	}
	m := Machine{
		Policy: w.policy, Signed: signed, Hardware: w.iron, Disks: gpt{w.path, w.state, w.data, w.rescueNode}, Clock: bootClock, Controller: w.hint,
		TPM: func() (transport.TPMCloser, error) {
			if w.noTPM {
				return nil, os.ErrNotExist
			}
			return closer{wire}, nil
		},
		Open: func(node string, readOnly bool) (Medium, error) {
			m, err := openLedger(node, readOnly)
			if err == nil && w.medium != nil {
				m = w.medium(m)
			}
			return m, err
		},
		Say:     func(f string, a ...any) { fmt.Fprintf(&w.said, f+"\n", a...) },
		Console: w.console, RecoveryAsked: w.asked, SetupMode: w.enrollment != nil, Enrollment: w.enrollment,
		Slots:    func(string, map[string]string) ([]verdict.DiskSlot, error) { return w.slots, nil },
		OpenSlot: openSlot, EditSlot: w.editSlot, Sticks: shelf{w.stick},
		Fetch: w.fetch,
	}
	if w.volumes != nil {
		w.volumes.mapped = map[string]string{}
		m.Volumes, m.StateTemplate = w.volumes, template
	}
	if w.uefi {
		m.BootPart = "boot-guid"
	}
	if w.answer != nil {
		m.Confirm = func(_ context.Context, _, word string) bool { return w.answer(word) }
	}
	return Check(w.t.Context(), m)
}

// want checks a verdict and everything that must follow from it.
func (w *world) want(r Result, d verdict.Decision, code string) {
	w.t.Helper()
	b := r.Report.Box
	if b.Decision != d || b.Code != code {
		w.t.Errorf("verdict %s %s (%s), want %s %s", b.Decision, b.Code, b.Reason, d, code)
	}
	if d == verdict.Released {
		if !w.iron.bound[bootPlace] || r.Report.BootDisk.State == "" {
			w.t.Errorf("released, but the boot disk is not there: %+v", r.Report.BootDisk)
		}
		if r.Report.Counter != r.Report.Expected {
			w.t.Errorf("released with counter %d, expected %d", r.Report.Counter, r.Report.Expected)
		}
		return
	}
	for place, b := range w.iron.bound {
		if b {
			w.t.Errorf("isolated, but %s is bound", place)
		}
	}
	for _, d := range r.Report.Devices {
		if d.Decision == verdict.Released {
			w.t.Errorf("isolated, but %s is released", d.ID)
		}
	}
	if b.Reason == "" || b.Next == "" {
		w.t.Errorf("isolated without reason or next command: %+v", b)
	}
	if r.Config != nil {
		w.t.Error("isolated, but a configuration was handed over")
	}
}

// capped checks that PCR 11 moved on from the image.
func (w *world) capped() {
	w.t.Helper()
	if w.pcr11() == measured(w.policy.Version) {
		w.t.Error("PCR 11 is not capped")
	}
}

func (w *world) pcr11() ledger.Digest {
	w.t.Helper()
	r, err := tpm2.PCRRead{PCRSelectionIn: tpm2.TPMLPCRSelection{PCRSelections: []tpm2.TPMSPCRSelection{
		{Hash: tpm2.TPMAlgSHA256, PCRSelect: tpm2.PCClientCompatible.PCRs(11)},
	}}}.Execute(w.tpm)
	if err != nil {
		w.t.Fatal(err)
	}
	return ledger.Digest(r.PCRValues.Digests[0].Buffer)
}

func measured(word string) ledger.Digest { return signtest.Measured(word) }

func devices(r Result) map[string]string {
	out := map[string]string{}
	for _, d := range r.Report.Devices {
		out[d.ID] = string(d.Decision) + " " + d.Code
	}
	return out
}

// apply is `ratchetctl config apply` at run time.
func (w *world) apply(config string) {
	w.t.Helper()
	m := attempt.New(attempt.Opener{
		TPM:    func() (transport.TPMCloser, error) { return closer{w.tpm}, nil },
		Ledger: func() (attempt.Medium, error) { return ledger.OpenFile(w.path, false) },
	})
	if _, err := m.ApplyConfig(w.t.Context(), []byte(config), "test"); err != nil {
		w.t.Fatal(err)
	}
}

// publicC is C's public area, from outside of package counter.
func publicC(written bool) tpm2.TPMSNVPublic {
	return tpm2.TPMSNVPublic{
		NVIndex: counter.HandleC, NameAlg: tpm2.TPMAlgSHA256, DataSize: 8,
		Attributes: tpm2.TPMANV{NT: tpm2.TPMNTCounter, AuthWrite: true, AuthRead: true, NoDA: true, Written: written},
	}
}

// increment moves C behind everybody's back.
func (w *world) increment() { w.incrementC(true) }

func (w *world) incrementC(written bool) {
	w.t.Helper()
	p := publicC(written)
	n, err := tpm2.NVName(&p)
	if err == nil {
		h := tpm2.NamedHandle{Handle: p.NVIndex, Name: *n}
		_, err = tpm2.NVIncrement{AuthHandle: tpm2.AuthHandle{Handle: h.Handle, Name: h.Name, Auth: tpm2.PasswordAuth(nil)}, NVIndex: h}.Execute(w.tpm)
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

// redefine removes C as the owner and makes it again: the same Name, and a value that was never seen.
func (w *world) redefine() {
	w.t.Helper()
	owner := tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: tpm2.PasswordAuth(counter.OwnerAuth(w.policy.RecoveryKey))}
	p := publicC(true)
	n, err := tpm2.NVName(&p)
	if err == nil {
		_, err = tpm2.NVUndefineSpace{AuthHandle: owner, NVIndex: tpm2.NamedHandle{Handle: p.NVIndex, Name: *n}}.Execute(w.tpm)
	}
	if err == nil {
		_, err = tpm2.NVDefineSpace{AuthHandle: owner, PublicInfo: tpm2.New2B(publicC(false))}.Execute(w.tpm)
	}
	if err != nil {
		w.t.Fatal(err)
	}
	w.incrementC(false)
}

// cutter is a bus on which the power fails before a command: nothing after it arrives.
type cutter struct {
	transport.TPM
	left int
	last tpm2.TPMCC // the first command that did not arrive
}

var errPower = errors.New("power failed")

func (c *cutter) Send(b []byte) ([]byte, error) {
	if c.left--; c.left < 0 {
		if c.left == -1 {
			c.last = tpm2.TPMCC(binary.BigEndian.Uint32(b[6:]))
		}
		return nil, errPower
	}
	return c.TPM.Send(b)
}
