package domxml

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"

	"github.com/ratchetos/ratchet/plugins/migration/model"
)

// segments of the host in the tests.
var segments = Networks{"office": "bridge:br0", "lab": "network:isolated", "out": "user"}

// TestData runs testdata/*.txt. The commands are
//
//	shape                    the shape of the XML, or why it has none
//	build                    the XML of a shape
//	retarget [set=…]         the XML of the destination of a VM, after changes to its shape
//	overview                 what is shown of a domain
func TestData(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		if !strings.HasSuffix(path, ".txt") {
			return
		}
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			out, err := command(t, d)
			if err != nil {
				return "refused: " + err.Error() + "\n"
			}
			return out
		})
	})
}

func command(t *testing.T, d *datadriven.TestData) (string, error) {
	switch d.Cmd {
	case "shape":
		doc, err := Parse(in(t, d.Input))
		if err != nil {
			return "", err
		}
		s, err := ShapeOf(doc, segments)
		return show(s), err
	case "overview":
		doc, err := Parse(in(t, d.Input))
		if err != nil {
			return "", err
		}
		return show(Summary(doc)), nil
	case "build":
		var s model.Shape
		if err := json.Unmarshal([]byte(d.Input), &s); err != nil {
			t.Fatal(err)
		}
		doc, err := Build(s, segments)
		if err != nil {
			return "", err
		}
		return lines(doc), nil
	case "retarget":
		first, change, _ := strings.Cut(d.Input, "\n")
		doc, err := Parse(in(t, first))
		if err != nil {
			t.Fatal(err)
		}
		now, err := ShapeOf(doc, segments)
		if err != nil {
			t.Fatal(err)
		}
		var then model.Shape // a copy that shares nothing
		text, _ := json.Marshal(now)
		if err := json.Unmarshal(text, &then); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal([]byte(change), &then); err != nil {
			t.Fatal(err)
		}
		// The target has the same segments by other names.
		out, err := Retarget(doc, now, then, Networks{"office": "network:office2"})
		if err != nil {
			return "", err
		}
		return differs(lines(doc), lines(out)), nil
	}
	t.Fatalf("unknown command %s", d.Cmd)
	return "", nil
}

// in is the input itself, or the file that it names.
func in(t *testing.T, input string) string {
	if name, ok := strings.CutPrefix(input, "file "); ok {
		text, err := os.ReadFile("testdata/" + strings.TrimSpace(name))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	return input
}

func show(v any) string {
	text, _ := json.MarshalIndent(v, "", " ")
	return string(text) + "\n"
}

// lines prints an element with each of those inside on a line of its own.
func lines(n *Node) string {
	var b strings.Builder
	var print func(n *Node, depth int)
	print = func(n *Node, depth int) {
		if len(n.Elements()) == 0 {
			fmt.Fprintf(&b, "%*s%s\n", depth, "", n)
			return
		}
		head := &Node{Name: n.Name, Attrs: n.Attrs}
		fmt.Fprintf(&b, "%*s%s\n", depth, "", strings.Replace(head.String(), "/>", ">", 1))
		for _, c := range n.Elements() {
			print(c, depth+1)
		}
	}
	print(n, 0)
	return b.String()
}

// differs is what lines of the second are not in the first, and the other way round.
func differs(a, b string) string {
	var out strings.Builder
	for _, side := range []struct {
		sign    string
		of, not string
	}{{"-", a, b}, {"+", b, a}} {
		have := map[string]int{}
		for l := range strings.SplitSeq(side.not, "\n") {
			have[l]++
		}
		for l := range strings.SplitSeq(side.of, "\n") {
			if have[l]--; have[l] < 0 {
				out.WriteString(side.sign + l + "\n")
			}
		}
	}
	return out.String()
}

// TestRoundTrip: what is built is read as what it was.
func TestRoundTrip(t *testing.T) {
	s := model.Shape{
		Version: 1, VM: "x", UUID: "ba2dba3b-3f6b-42fd-8b32-714a468e8ac5", Machine: "pc-q35-7.2", Accel: "kvm",
		CPU: model.CPU{Model: "Nehalem", Features: []string{"+aes", "-vmx"}}, VCPUs: 2, MaxVCPUs: 8,
		Memory: model.Memory{
			Boot: 1 << 30, Max: 8 << 30, Slots: 4,
			DIMMs:     []model.DIMM{{ID: "d0", Size: 1 << 30, Slot: 0, Addr: 1 << 32}},
			VirtioMem: []model.VirtioMem{{ID: "m0", Max: 2 << 30, Requested: 1 << 30, Block: 2 << 20, Bus: "pci.3", Addr: "0x0"}},
		},
		NICs: []model.NIC{
			{ID: "n0", Model: "virtio-net-pci", MAC: "52:54:00:00:00:01", Network: "office", Bus: "pci.1", Addr: "0x0"},
			{ID: "n1", Model: "e1000e", MAC: "52:54:00:00:00:02", Network: "default", Bus: "pcie.0", Addr: "0x1f.0x2"},
		},
		Disks: []model.Disk{
			{ID: "v", Model: "virtio-blk-pci", Serial: "s1", Source: model.Source{Volume: &model.Volume{Name: "vol", Server: "tcp:[fd00::1]:10810"}}, Bus: "pci.2", Addr: "0x0"},
			{ID: "u", Model: "virtio-blk-pci", Source: model.Source{Volume: &model.Volume{Name: "w", Server: "unix:/run/nbd"}}},
			{ID: "l", Model: "ide-hd", Source: model.Source{Local: "/dev/vg/lv"}},
		},
		Others: []model.Device{{ID: "", Args: "pcie-root-port,bus=pcie.0,addr=0x2"}, {ID: "agent", Args: "virtserialport,name=a.0"}},
		Boot:   model.Boot{Kernel: "/k", Initrd: "/i", Append: `console=ttyS0 "x" <&>`, Firmware: "/usr/share/OVMF_CODE.fd"},
	}
	doc, err := Build(s, segments)
	if err != nil {
		t.Fatal(err)
	}
	again, err := Parse(doc.String())
	if err != nil {
		t.Fatal(err)
	}
	got, err := ShapeOf(again, segments)
	if err != nil {
		t.Fatal(err)
	}
	if show(got) != show(s) {
		t.Errorf("read as\n%s\nbuilt from\n%s", show(got), show(s))
	}
}

// FuzzShape: any XML is read, shown, printed and read again without harm, and printing loses nothing.
func FuzzShape(f *testing.F) {
	live, err := os.ReadFile("testdata/live.xml")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(live))
	f.Add(`<domain type='kvm'><name>&lt;x</name><os><type arch='x86_64'>hvm</type></os><cpu/><devices><disk/><interface type="user"/></devices></domain>`)
	f.Add(`<a:b xmlns:a="c" d='&quot;'><!-- e --><f/>g</a:b>`)
	f.Fuzz(func(t *testing.T, text string) {
		doc, err := Parse(text)
		if err != nil {
			return
		}
		Summary(doc)
		GuestsOf(doc)
		if s, err := ShapeOf(doc, segments); err == nil {
			if _, err := Retarget(doc, s, s, segments); err != nil && !strings.Contains(err.Error(), "network") {
				t.Errorf("to the shape that it has: %v", err)
			}
		}
		again, err := Parse(doc.String())
		if err != nil {
			t.Fatalf("printed as %q: %v", doc, err)
		}
		if again.String() != doc.String() {
			t.Errorf("printed as %q, then as %q", doc, again)
		}
	})
}
