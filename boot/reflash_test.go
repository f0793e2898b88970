package boot

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ratchetos/ratchet/boot/bundle"
	"github.com/ratchetos/ratchet/boot/esp"
	"github.com/ratchetos/ratchet/boot/ledger"
	"github.com/ratchetos/ratchet/boot/recovery"
	"github.com/ratchetos/ratchet/boot/request"
	"github.com/ratchetos/ratchet/boot/verdict"
	"github.com/ratchetos/ratchet/hw"
)

const (
	usbPlace = "pci:0000:00:08.0"
	slotSize = 40 << 20
)

// shelf is a stick with one bundle written to it; what follows its end was there before.
type shelf struct{ path string }

func (s shelf) Bundle(node string) (io.ReadSeekCloser, string, error) {
	if s.path == "" {
		return nil, "", ErrNoBundle
	}
	r, err := rawBundle(s.path)
	if r == nil && err == nil {
		err = ErrNoBundle
	}
	return r, node, err
}

// slotted is a world with two image slots in files and a stick in a USB port. The slots hold uki.
func slotted(t *testing.T, uki []byte) (w *world, slots []verdict.DiskSlot) {
	t.Helper()
	w = newWorld(t, "simulator")
	w.iron.order = append(w.iron.order, usbPlace)
	w.iron.behind[usbPlace] = []hw.Device{{ID: "serial:stick", Place: usbPlace, Kind: hw.Disk, Bus: "usb", Node: "/dev/sdz"}}
	for i, name := range []string{"A", "B"} {
		d := verdict.DiskSlot{Name: name, Node: filepath.Join(t.TempDir(), name), Start: uint64(2048 + i*slotSize/512), Sectors: slotSize / 512}
		fillSlot(t, d.Node, slotVolume(d), uki)
		slots = append(slots, d)
	}
	w.slots = slots
	return w, slots
}

func fillSlot(t *testing.T, path string, v esp.Volume, uki []byte) {
	t.Helper()
	f, err := os.Create(path)
	if err == nil {
		err = errors.Join(f.Truncate(v.Size), esp.Write(f, v, bytes.NewReader(uki), int64(len(uki))), f.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
}

// put writes a bundle with uki onto the stick, signed by key, after change has been at its manifest.
func (w *world) put(key *ecdsa.PrivateKey, uki []byte, change func(*bundle.Manifest)) {
	w.t.Helper()
	b := append(w.bundle(key, uki, change), strings.Repeat("what an earlier owner left", 100)...)
	w.stick = filepath.Join(w.t.TempDir(), "stick")
	if err := os.WriteFile(w.stick, b, 0o600); err != nil {
		w.t.Fatal(err)
	}
}

// bundle is a signed update.
func (w *world) bundle(key *ecdsa.PrivateKey, uki []byte, change func(*bundle.Manifest)) []byte {
	w.t.Helper()
	sbom := []byte("{}")
	m := bundle.Manifest{
		Format: bundle.Format, Product: bundle.Product, Flavour: "full", Arch: "x86_64", Version: "2.0", SecurityVersion: 3,
		UKI:  bundle.File{Length: int64(len(uki)), SHA256: sha256.Sum256(uki)},
		SBOM: bundle.File{Length: int64(len(sbom)), SHA256: sha256.Sum256(sbom)},
	}
	if change != nil {
		change(&m)
	}
	manifest, err := m.Encode()
	if err != nil {
		w.t.Fatal(err)
	}
	signature, err := bundle.Sign(manifest, key)
	if err != nil {
		w.t.Fatal(err)
	}
	var b bytes.Buffer
	if err := bundle.Write(&b, manifest, signature, sbom, bytes.NewReader(uki)); err != nil {
		w.t.Fatal(err)
	}
	return b.Bytes()
}

func slotHolds(t *testing.T, d verdict.DiskSlot) ledger.Digest {
	t.Helper()
	r, err := openSlot(d.Node)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	i, err := esp.Read(r, r.Size())
	if err != nil {
		return ledger.Digest{}
	}
	return ledger.Digest(i.SHA256)
}

// TestReflash writes a slot from a bundle, or refuses to, and then nothing but the counted attempt is left of it.
func TestReflash(t *testing.T) {
	older, newer := bytes.Repeat([]byte("older"), 1<<18), bytes.Repeat([]byte("newer"), 1<<18)
	for _, c := range []struct {
		name    string
		types   string
		prepare func(w *world, key *ecdsa.PrivateKey)
		says    string
		written bool
		counted bool
	}{
		{"good", "reflash B", func(w *world, k *ecdsa.PrivateKey) { w.put(k, newer, nil) }, "slot B holds image 2.0 from /dev/sdz now (attempt 2)", true, true},
		{"running slot", "reflash A", func(w *world, k *ecdsa.PrivateKey) { w.put(k, newer, nil) }, "is the one that runs", false, false},
		{"no such slot", "reflash C", func(w *world, k *ecdsa.PrivateKey) { w.put(k, newer, nil) }, "there is no slot C", false, false},
		{"empty stick", "reflash B", func(*world, *ecdsa.PrivateKey) {}, "no update bundle", false, false},
		{"a stranger's", "reflash B", func(w *world, _ *ecdsa.PrivateKey) { w.put(newWorldKey(w.t), newer, nil) }, "not signed by a key", false, false},
		{"other flavour", "reflash B", func(w *world, k *ecdsa.PrivateKey) {
			w.put(k, newer, func(m *bundle.Manifest) { m.Flavour = "cloud" })
		}, "not for this box", false, false},
		{"too large", "reflash B", func(w *world, k *ecdsa.PrivateKey) { w.put(k, make([]byte, slotSize), nil) }, "a slot of this box holds", false, false},
		{"cut off", "reflash B", func(w *world, k *ecdsa.PrivateKey) {
			w.put(k, newer, nil)
			if err := os.Truncate(w.stick, 1<<20); err != nil {
				w.t.Fatal(err)
			}
		}, "no update bundle", false, false},
		{"altered", "reflash B", func(w *world, k *ecdsa.PrivateKey) {
			w.put(k, newer, nil)
			b, err := os.ReadFile(w.stick)
			if err == nil {
				b[1<<20] ^= 1
				err = os.WriteFile(w.stick, b, 0o600)
			}
			if err != nil {
				w.t.Fatal(err)
			}
		}, "the digest is not the one", false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			w, slots := slotted(t, older)
			k := newWorldKey(t)
			w.policy.BundleKeys = []string{publicPEM(t, k)}
			first := w.boot()
			w.want(first, verdict.Released, "provisioned")
			c.prepare(w, k)
			w.types(c.types, "status")
			w.asked = "it was asked for"
			r := w.boot()
			w.shows(c.says)
			want := ledger.Sum(older)
			if c.written {
				want = ledger.Sum(newer)
			}
			if got := slotHolds(t, slots[1]); got != want {
				t.Errorf("slot B holds %s, want %s", got.Short(), want.Short())
			}
			if counted := r.Report.Counter > first.Report.Counter; counted != c.counted {
				t.Errorf("counter %d, before %d", r.Report.Counter, first.Report.Counter)
			}
			if w.iron.bound[usbPlace] != w.iron.bound[diskPlace] {
				t.Error("the stick's controller is not as any other's")
			}
			for _, i := range r.Report.Images {
				if i.Slot == "B" && (i.Decision != verdict.Released || i.Digest != want) {
					t.Errorf("slot B: %+v", i)
				}
			}
			w.console, w.asked = nil, ""
			w.want(w.boot(), verdict.Released, "clean")
		})
	}
}

// TestReflashWithoutTPM: an image that runs without a TPM counts no attempts, and says so.
func TestReflashWithoutTPM(t *testing.T) {
	w, slots := slotted(t, []byte("older"))
	k := newWorldKey(t)
	w.policy.BundleKeys, w.policy.TPM = []string{publicPEM(t, k)}, "optional"
	w.noTPM = true
	w.put(k, []byte("newer"), nil)
	w.asked = "it was asked for"
	w.types("reflash B")
	r := w.boot()
	w.shows("not done: count the attempt: there is no TPM to count it with")
	if r.Report.Box.Code != "tpm-unused" || slotHolds(t, slots[1]) != ledger.Sum([]byte("older")) {
		t.Errorf("%+v", r.Report.Box)
	}
}

// TestReflashOtherPort: a USB controller that cannot be bound keeps nobody from the stick behind another one, and is said
// where there is none.
func TestReflashOtherPort(t *testing.T) {
	const broken = "pci:0000:00:07.0"
	w, _ := slotted(t, bytes.Repeat([]byte("older"), 1<<10))
	k := newWorldKey(t)
	w.policy.BundleKeys = []string{publicPEM(t, k)}
	w.iron.order = append([]string{broken}, w.iron.order...)
	w.iron.behind[broken] = []hw.Device{{ID: "serial:port", Place: broken, Kind: hw.Disk, Bus: "usb", Node: "/dev/sdy"}}
	w.want(w.boot(), verdict.Released, "provisioned")
	w.iron.fails = map[string]error{broken: errors.New("the port is broken")}
	w.asked = "it was asked for"
	w.types("reflash B")
	w.boot()
	w.shows("not done: ", "the port is broken", "serial:stick: no update bundle")
	w.put(k, bytes.Repeat([]byte("newer"), 1<<10), nil)
	w.types("reflash B")
	w.boot()
	w.shows("slot B holds image 2.0 from /dev/sdz")
}

// TestValidateByManifest: a device with other firmware than the ledger's passes if a signed manifest lists it.
func TestValidateByManifest(t *testing.T) {
	const nic = "mac:52:54:00:00:00:01"
	for _, c := range []struct{ name, version, want string }{
		{"listed", "6.6", "released ok"},
		{"another version is listed", "6.7", "isolated firmware-changed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w, _ := slotted(t, []byte("uki"))
			k := newWorldKey(t)
			w.policy.BundleKeys = []string{publicPEM(t, k)}
			w.iron.behind[nicPlace][0].Model = "82574L"
			w.want(w.boot(), verdict.Released, "provisioned")
			w.iron.behind[nicPlace][0].Firmware = "6.6"
			w.put(k, []byte("uki"), func(m *bundle.Manifest) {
				m.Firmware = []bundle.Firmware{{Kind: "nic", Model: "82574L", Version: c.version}}
			})
			w.types("validate " + nic)
			w.asked = "it was asked for"
			w.boot()
			w.console, w.asked = nil, ""
			if got := devices(w.boot())[nic]; got != c.want {
				t.Errorf("the NIC is %s, want %s\n%s", got, c.want, w.screen.String())
			}
		})
	}
}

// TestReflashPowerCut ends the write of a slot early: it does not start, the box does, and can be told again.
func TestReflashPowerCut(t *testing.T) {
	older, newer := bytes.Repeat([]byte("older"), 1<<18), bytes.Repeat([]byte("newer"), 1<<18)
	for _, left := range []int{0, 1, 2, 3, 4} {
		t.Run(fmt.Sprintf("after %d writes", left), func(t *testing.T) { cutReflash(t, left, older, newer) })
	}
}

func cutReflash(t *testing.T, left int, older, newer []byte) {
	t.Helper()
	w, slots := slotted(t, older)
	k := newWorldKey(t)
	w.policy.BundleKeys = []string{publicPEM(t, k)}
	w.want(w.boot(), verdict.Released, "provisioned")
	w.put(k, newer, nil)
	w.types("reflash B")
	w.asked = "it was asked for"
	w.cut = &left
	r := w.boot()
	w.shows("power failed")
	w.cut = nil
	if got := slotHolds(t, slots[1]); got != (ledger.Digest{}) && got != ledger.Sum(older) {
		t.Errorf("after %d writes slot B holds %s", left, got.Short())
	}
	w.want(r, verdict.Released, "closing")
	w.types("reflash B")
	r = w.boot()
	w.shows("slot B holds image 2.0")
	w.want(r, verdict.Released, "closing")
}

// cutSlot is a slot whose power fails after some writes.
type cutSlot struct {
	SlotWriter
	left *int
}

func (f cutSlot) WriteAt(b []byte, at int64) (int, error) {
	if *f.left--; *f.left < 0 {
		return 0, errPower
	}
	return f.SlotWriter.WriteAt(b, at)
}

// TestRescueStick starts the image from a stick: nothing is released, and both slots can be written from it.
func TestRescueStick(t *testing.T) {
	older, running := bytes.Repeat([]byte("older"), 1<<18), bytes.Repeat([]byte("running"), 1<<17)
	w, slots := slotted(t, older)
	w.want(w.boot(), verdict.Released, "provisioned")
	for _, d := range slots { // both slots are bad
		if err := os.Truncate(d.Node, 0); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(d.Node, slotSize); err != nil {
			t.Fatal(err)
		}
	}
	w.rescueNode = filepath.Join(t.TempDir(), "rescue")
	fillSlot(t, w.rescueNode, esp.Volume{Size: slotSize, Label: "RESCUE"}, running)
	w.types("reflash A", "reflash B", "reboot")
	r := w.boot()
	w.shows("started from a rescue stick", "reflash A", "slot A holds image 1.0 from the rescue stick", "slot B holds image 1.0")
	w.want(r, verdict.Isolated, "ended")
	w.types("continue")
	r = w.boot()
	w.want(r, verdict.Isolated, "rescue")
	w.capped()

	w.console, w.rescueNode = nil, ""
	r = w.boot() // without the stick
	w.want(r, verdict.Released, "closing")
	for _, i := range r.Report.Images {
		if i.Decision != verdict.Released || i.Digest != ledger.Sum(running) {
			t.Errorf("slot %s: %+v", i.Slot, i)
		}
	}
}

// TestRescueReleasesNothing: nothing is wrong with the box itself, whatever is typed at the console of a stick.
func TestRescueReleasesNothing(t *testing.T) {
	w, slots := slotted(t, []byte("older"))
	k := w.owner()
	first := w.boot()
	w.want(first, verdict.Released, "provisioned")
	w.rescueNode = slots[1].Node
	for _, line := range []string{"validate", "accept|DEV-KEY"} {
		w.types(strings.Split(line, "|")...)
		w.want(w.boot(), verdict.Isolated, "rescue")
		w.shows(recovery.ErrNothing.Error())
	}
	w.console = nil
	for _, kind := range []request.Kind{request.Validate, request.Accept} {
		w.leave(k, request.Request{Kind: kind, Box: first.Report.TPM.SRKName, Counter: w.counter()})
		w.want(w.boot(), verdict.Isolated, "rescue")
		if out := w.outcome(); !strings.Contains(out, "refused") {
			t.Errorf("%s: %s", kind, out)
		}
	}
	w.rescueNode = ""
	w.want(w.boot(), verdict.Released, "clean")
}

// TestRescueOfAnIsolatedBox: somebody has to see to a box that is not in order before its slots can be written, also where
// only the stick starts.
func TestRescueOfAnIsolatedBox(t *testing.T) {
	w, slots := slotted(t, []byte("older"))
	w.want(w.boot(), verdict.Released, "provisioned")
	w.increment()
	w.rescueNode = slots[1].Node
	w.types("reflash A", "validate")
	w.want(w.boot(), verdict.Released, "validated")
	w.shows("see to the box first")

	// What the slots hold is not the stick's image: V must not rise over them.
	w.format()
	w.policy.SecurityVersion = 3
	w.types("accept", "DEV-KEY")
	r := w.boot()
	w.want(r, verdict.Released, "accepted")
	if got, ok := devices(r)["serial:stick"]; ok {
		t.Errorf("the stick is a device of the box: %s", got)
	}
	for _, i := range r.Report.Images {
		if i.Code != "baseline" || i.Version != 0 {
			t.Errorf("slot %s: %+v", i.Slot, i)
		}
	}
	w.types("reflash A", "reboot")
	w.want(w.boot(), verdict.Isolated, "ended")
	w.shows("slot A holds image 1.0 from the rescue stick")
}

// FuzzBundleLength: whatever lies on a stick has a length that is on it, or none.
func FuzzBundleLength(f *testing.F) {
	f.Add([]byte("manifest.json"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if n := bundleLength(bytes.NewReader(b)); n < 0 || n > int64(len(b)) {
			t.Fatalf("%d of %d bytes", n, len(b))
		}
	})
}
