package tree

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
	"github.com/google/go-cmp/cmp"

	"github.com/ratchetos/ratchet/plugins/gateway/target/exports"
)

// TestPlan runs testdata/plan.txt: sections, one a line, one after the other on one kernel, and the steps to each.
// "@N" before a section moves all devices up by N, as after a restart of the box's nbd devices.
func TestPlan(t *testing.T) {
	datadriven.RunTest(t, "testdata/plan.txt", func(t *testing.T, d *datadriven.TestData) string {
		k := newKernel()
		var out strings.Builder
		for line := range strings.Lines(d.Input) {
			move := 0
			text := strings.TrimSpace(line)
			if n, rest, ok := strings.Cut(text, " "); ok && strings.HasPrefix(n, "@") {
				if _, err := fmt.Sscanf(n, "@%d", &move); err != nil {
					d.Fatalf(t, "%v", err)
				}
				text = rest
			}
			var c exports.Config
			if err := json.Unmarshal([]byte(text), &c); err != nil {
				d.Fatalf(t, "%v", err)
			}
			want := Desired(backed(c, move))
			fmt.Fprintln(&out, "--")
			for _, op := range Plan(want, k.snapshot(want)) {
				fmt.Fprintln(&out, op)
				if err := k.do(op); err != nil {
					fmt.Fprintln(&out, "refused:", err)
				}
			}
		}
		return out.String()
	})
}

// names of the volumes there are; the first has device 0.
var names = []string{"a", "b", "c"}

func backed(c exports.Config, move int) []Backed {
	var volumes []exports.Volume
	for _, name := range names {
		volumes = append(volumes, exports.Volume{Name: name, Place: exports.Place{Volume: name}})
	}
	var out []Backed
	for _, e := range c.List(volumes) {
		out = append(out, Backed{Export: e, Device: fmt.Sprintf("/dev/nbd%d", slices.Index(names, e.Volume)+move)})
	}
	return out
}

// TestTransitions goes from random exports to random exports. Whatever comes after whatever: the kernel refuses no step,
// a device is never exported twice on the way, and a second plan has nothing to do.
func TestTransitions(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	k := newKernel()
	for i := range 500 {
		want := Desired(arbitrary(r))
		for _, op := range Plan(want, k.snapshot(want)) {
			if err := k.do(op); err != nil {
				t.Fatalf("change %d: %s: %v", i, op, err)
			}
			seen := map[string]bool{}
			for _, device := range k.exported() {
				if seen[device] {
					t.Fatalf("change %d: after %s %s is exported twice", i, op, device)
				}
				seen[device] = true
			}
		}
		if again := Plan(want, k.snapshot(want)); len(again) > 0 {
			t.Fatalf("change %d: a second plan has %v", i, again)
		}
	}
}

// TestRefusedAlone: whatever the kernel has against one export, the others come up, no device is exported twice, the export
// is not taken for one that clients can use, and when the kernel takes it at last everything is as it should be.
func TestRefusedAlone(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	k := newKernel()
	for i := range 500 {
		list := arbitrary(r)
		want, names := Desired(list), map[string]bool{}
		for _, b := range list {
			names[GroupOf(b.Export)] = true
		}
		refused := names
		if len(list) > 0 {
			refused = map[string]bool{GroupOf(list[r.IntN(len(list))].Export): true}
		}
		left := r.IntN(12) // steps of it that the kernel takes before
		failed, err := Carry(Plan(want, k.snapshot(want)), func(op Op) error {
			if refused[op.Group] {
				if left--; left < 0 {
					return errors.New("refused")
				}
			}
			return k.do(op)
		})
		if err != nil {
			t.Fatalf("change %d: %v", i, err)
		}
		seen := map[string]bool{}
		for _, device := range k.exported() {
			if seen[device] {
				t.Fatalf("change %d: %s is exported twice", i, device)
			}
			seen[device] = true
		}
		have := k.snapshot(want)
		for _, b := range list {
			g := GroupOf(b.Export)
			if why := failed[g]; (why != nil) && !refused[g] {
				t.Errorf("change %d: %s fails, and only %v is refused: %v", i, g, refused, why)
			}
			if seen[b.Device] != Exported(b.Export, have) && (b.Protocol == exports.ProtocolISCSI || len(b.Portals) > 0) && failed[g] == nil {
				t.Errorf("change %d: %s: exported %t, and said to be so %t", i, g, seen[b.Device], !seen[b.Device])
			}
		}
		failed, err = Carry(Plan(want, k.snapshot(want)), k.do)
		if err != nil || len(failed) > 0 {
			t.Fatalf("change %d: afterwards: %v, %v", i, failed, err)
		}
		if again := Plan(want, k.snapshot(want)); len(again) > 0 {
			t.Fatalf("change %d: a plan after it has %v", i, again)
		}
	}
}

// TestCarry: an address that cannot be listened on is the concern of those that are reached there alone, and what others may depend on, of all.
func TestCarry(t *testing.T) {
	ops := []Op{
		{Do: Mkdir, Path: "shared"},
		{Do: Mkdir, Path: "a", Group: "a"},
		{Do: Write, Path: "a/x", Group: "a"},
		{Do: Mkdir, Path: "b", Group: "b"},
		{Do: Mkdir, Path: "port", Group: "port"},
		{Do: Symlink, Path: "port/b", Group: "b", port: "port"},
		{Do: Write, Path: "b/y", Group: "b"},
	}
	for refused, want := range map[string]string{
		"":       "shared a a/x b port port/b b/y | ",
		"a":      "shared b port port/b b/y | a",
		"port":   "shared a a/x b | b port",
		"port/b": "shared a a/x b port | b",
		"shared": " | err",
	} {
		var done, why []string
		failed, err := Carry(ops, func(op Op) error {
			if op.Path == refused {
				return errors.New("no")
			}
			done = append(done, op.Path)
			return nil
		})
		for g := range failed {
			why = append(why, g)
		}
		slices.Sort(why)
		if err != nil {
			why = append(why, "err")
		}
		if got := strings.Join(done, " ") + " | " + strings.Join(why, " "); got != want {
			t.Errorf("%s refused: %s, want %s", refused, got, want)
		}
	}
}

// arbitrary exports some volumes somehow, each once.
func arbitrary(r *rand.Rand) []Backed {
	pick := func(list ...string) (out []string) {
		for _, s := range list {
			if r.IntN(2) == 0 {
				out = append(out, s)
			}
		}
		return out
	}
	portals := func(port uint16) (out []netip.AddrPort) {
		for _, a := range pick("10.0.0.1", "fd00::1") {
			out = append(out, netip.AddrPortFrom(netip.MustParseAddr(a), port))
		}
		return out
	}
	iscsi, nvme := portals(3260), portals(4420)
	var list []Backed
	for i, volume := range pick(names...) {
		e := exports.Export{Volume: volume, UUID: exports.UUID{byte(r.IntN(3) + 1)}}
		if r.IntN(2) == 0 {
			e.Protocol, e.Name, e.Portals, e.Clients = exports.ProtocolISCSI, "iqn.x:"+volume, iscsi, pick("iqn.h:1", "iqn.h:2")
			if r.IntN(2) == 0 {
				e.CHAP = exports.CHAP{User: "u", Secret: "secret-secret"}
			}
		} else {
			e.Protocol, e.Name, e.Portals, e.Clients = exports.ProtocolNVMe, "nqn.x:"+volume, nvme, pick("nqn.h:1", "nqn.h:2")
		}
		// A device of its own, and not always the same.
		list = append(list, Backed{Export: e, Device: fmt.Sprintf("/dev/nbd%d", i+3*r.IntN(2))})
	}
	return list
}

const registrations = `PR_REG_START: 0
initiator_fabric=iSCSI
initiator_node=iqn.x:host
initiator_sid=0x00023d000001
sa_res_key=1311768467294899695
res_holder=1
res_type=05
res_scope=00
res_all_tg_pt=0
mapped_lun=0
target_fabric=iSCSI
target_node=iqn.2026-01.org.ratchetos:a
tpgt=1
port_rtpi=1
target_lun=0
PR_REG_END: 0
`

func TestReservations(t *testing.T) {
	list, err := ParseReservations(registrations + strings.ReplaceAll(registrations, ": 0", ": 1") + "\x00")
	if err != nil || len(list) != 2 {
		t.Fatalf("%v, %v", list, err)
	}
	want := "initiator_fabric=iSCSI,initiator_node=iqn.x:host,initiator_sid=0x00023d000001,sa_res_key=1311768467294899695,res_holder=1,res_type=05," +
		"res_scope=00,res_all_tg_pt=0,mapped_lun=0,target_fabric=iSCSI,target_node=iqn.2026-01.org.ratchetos:a,tpgt=1,port_rtpi=1,target_lun=0"
	if got := list[0].metadata(); got != want {
		t.Errorf("metadata %q, want %q", got, want)
	}
	// They come before the disk is exported, or not at all: the kernel of the test refuses the rest.
	b := Backed{Export: exports.Export{Protocol: exports.ProtocolISCSI, Volume: "a", Name: "iqn.x:a"}, Device: "/dev/nbd0", Reservations: list}
	nodes, k := Desired([]Backed{b}), newKernel()
	given := 0
	for _, op := range Plan(nodes, k.snapshot(nodes)) {
		if err := k.do(op); err != nil {
			t.Errorf("%s: %v", op, err)
		}
		if strings.HasSuffix(op.Path, "res_aptpl_metadata") {
			given++
		}
	}
	if given != 2 {
		t.Errorf("%d registrations were given back, want 2", given)
	}
	for name, text := range map[string]string{
		"cut":     registrations[:len(registrations)-16],
		"nested":  "PR_REG_START: 0\n" + registrations,
		"unknown": strings.Replace(registrations, "tpgt", "tpgx", 1),
		"inject":  strings.Replace(registrations, "iqn.x:host", "iqn.x:host,res_holder=1", 1),
		"no end":  "PR_REG_END: 0\n",
		"long":    strings.Replace(registrations, "iqn.x:host", strings.Repeat("x", 5000), 1),
	} {
		if list, err := ParseReservations(text + "\x00"); err == nil || errors.Is(err, ErrTorn) {
			t.Errorf("%s: %v, %v", name, list, err)
		}
	}
	if list, err := ParseReservations("No Registrations or Reservations\x00"); err != nil || len(list) > 0 {
		t.Errorf("none: %v, %v", list, err)
	}
}

// TestReservationsAfterARefusal: whichever step the kernel refuses at first, the disk is not exported without what its
// initiators rely on.
func TestReservationsAfterARefusal(t *testing.T) {
	list, err := ParseReservations(registrations + strings.ReplaceAll(registrations, ": 0", ": 1") + "\x00")
	if err != nil {
		t.Fatal(err)
	}
	b := Backed{Export: exports.Export{Protocol: exports.ProtocolISCSI, Volume: "a", Name: "iqn.x:a"}, Device: "/dev/nbd0", Reservations: list}
	nodes := Desired([]Backed{b})
	for refused := range len(Plan(nodes, newKernel().snapshot(nodes))) {
		k, given := newKernel(), 0
		for try, first := range []int{refused, -1} {
			for i, op := range Plan(nodes, k.snapshot(nodes)) {
				if i == first {
					break
				}
				if err := k.do(op); err != nil {
					t.Fatalf("step %d refused, try %d: %s: %v", refused, try, op, err)
				}
				switch {
				case op.Do == Mkdir && op.Path == Store(b.Export):
					given = 0
				case strings.HasSuffix(op.Path, "res_aptpl_metadata"):
					given++
				}
			}
		}
		if given != len(list) || len(k.exported()) != 1 {
			t.Errorf("step %d refused: %d registrations were given back, want %d; exported %v", refused, given, len(list), k.exported())
		}
	}
}

// TestKilledAtEachStep: wherever the process ends on its way to an export, the next one makes the same of it. What the kernel gives a
// new subsystem in place of a serial number is another one each time.
func TestKilledAtEachStep(t *testing.T) {
	portal := []netip.AddrPort{netip.MustParseAddrPort("10.0.0.1:3260")}
	list := []Backed{
		{Export: exports.Export{Protocol: exports.ProtocolISCSI, Volume: "a", Name: "iqn.x:a", UUID: exports.UUID{1}, Portals: portal}, Device: "/dev/nbd0"},
		{Export: exports.Export{Protocol: exports.ProtocolNVMe, Volume: "b", Name: "nqn.x:b", UUID: exports.UUID{2}, Portals: portal, Clients: []string{"nqn.h:1"}}, Device: "/dev/nbd1"},
	}
	nodes, whole := Desired(list), newKernel()
	steps := Plan(nodes, whole.snapshot(nodes))
	for done := range len(steps) + 1 {
		k := newKernel()
		for _, op := range append(slices.Clone(steps[:done:done]), Op{}) {
			if op == (Op{}) { // another process
				if failed, err := Carry(Plan(nodes, k.snapshot(nodes)), k.do); err != nil || len(failed) > 0 {
					t.Fatalf("%d steps done: %v, %v", done, failed, err)
				}
			} else if err := k.do(op); err != nil {
				t.Fatalf("%d steps done: %s: %v", done, op, err)
			}
		}
		if done == 0 {
			whole = k
		}
		if diff := cmp.Diff(whole.attrs, k.attrs); diff != "" {
			t.Errorf("killed after %d steps, which is %s: %s", done, steps[max(0, done-1)], diff)
		}
	}
}

// TestSure: without its reservations being known a disk stays as it is, and is not made.
func TestSure(t *testing.T) {
	e := exports.Export{Protocol: exports.ProtocolISCSI, Volume: "a", Name: "iqn.x:a"}
	made, k := Desired([]Backed{{Export: e, Device: "/dev/nbd0"}}), newKernel()
	whole := Plan(made, k.snapshot(made))
	for name, tc := range map[string]struct {
		done   int // steps of making it
		device string
		want   bool
	}{
		"exported":          {len(whole), "/dev/nbd0", true},
		"not made":          {0, "/dev/nbd0", false},
		"made in part":      {4, "/dev/nbd0", false},
		"of another device": {len(whole), "/dev/nbd1", false},
	} {
		k := newKernel()
		for _, op := range whole[:tc.done] {
			if err := k.do(op); err != nil {
				t.Fatalf("%s: %s: %v", name, op, err)
			}
		}
		list := []Backed{{Export: e, Device: tc.device, Unsure: true}, {Export: exports.Export{Protocol: exports.ProtocolISCSI, Volume: "b", Name: "iqn.x:b"}, Device: "/dev/nbd2"}}
		sure := Sure(list, k.snapshot(Desired(list)))
		if stays := sure[0].Volume == "a"; stays != tc.want || sure[len(sure)-1].Volume != "b" {
			t.Errorf("%s: %+v", name, sure)
		}
	}
}

// TestTornReservations: what is left of a file when the power went away while LIO wrote it is not taken for less reservations.
func TestTornReservations(t *testing.T) {
	for name, text := range map[string]string{
		"emptied":                    "",
		"cut after the first":        registrations,
		"cut inside of one":          registrations[:40],
		"none, cut":                  "No Registrations or Reservations",
		"length but no data":         strings.Repeat("\x00", len(registrations)+1),
		"length and a part of it":    registrations + strings.Repeat("\x00", len(registrations)),
		"a part that is not written": strings.Repeat("\x00", len(registrations)) + registrations + "\x00",
	} {
		if list, err := ParseReservations(text); !errors.Is(err, ErrTorn) {
			t.Errorf("%s: %v, %v", name, list, err)
		}
	}
}

// FuzzReservations: what is given to the kernel never holds more than the fields of one registration.
func FuzzReservations(f *testing.F) {
	f.Add(registrations + "\x00")
	f.Add(registrations)
	f.Add("No Registrations or Reservations\x00")
	f.Fuzz(func(t *testing.T, text string) {
		list, err := ParseReservations(text)
		if err != nil {
			return
		}
		for _, r := range list {
			m := r.metadata()
			if len(m) > maxMetadata || strings.ContainsAny(m, "\n\x00") || strings.Count(m, ",") >= max(1, len(r.fields)) {
				t.Errorf("metadata %q", m)
			}
		}
	})
}
