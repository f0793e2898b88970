package systems

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ratchetos/ratchet/qemu/box"
	"github.com/ratchetos/ratchet/qemu/s3server"
	"github.com/ratchetos/ratchet/qemu/vm"
)

// What QEMU 7.2 can show of the catalogue (configs/hardware.yaml), and what is not in it.
var (
	nicModels  = []string{"virtio-net", "e1000", "e1000e", "vmxnet3", "rtl8139"}
	diskModels = []string{"virtio-blk", "virtio-scsi", "nvme", "ahci", "megasas", "usb"}
	strangers  = []struct{ device, place string }{
		{"ne2k_pci,addr=0x1c,romfile=", "pci:0000:00:1c.0"},
		{"pcnet,addr=0x1d,romfile=", "pci:0000:00:1d.0"},
		{"lsi53c895a,addr=0x1e", "pci:0000:00:1e.0"},
	}
)

// matrixDisk is the size of each data disk, half of it write log.
const matrixDisk = 48 << 20

// matrix is one machine with every supported NIC and disk at once: found, bound, handed out, in use. Devices that the
// catalogue does not know are listed and left alone.
func (s *counterSuite) matrix(t *testing.T) {
	t.Parallel()
	dir := s.machine("matrix")
	must(t, os.MkdirAll(dir, 0o755))
	store, err := s3server.Start(t.Context(), s3server.Options{Dir: filepath.Join(dir, "s3")})
	must(t, err)
	t.Cleanup(func() { store.Stop() })
	o := matrixOptions(t, s.image, dir, store)
	m := boot(t, o)
	m.released("provisioned")
	m.login()

	m.findsAll(t)
	for i := range nicModels {
		m.carries(t, i)
	}
	for _, model := range diskModels {
		m.stores(t, model)
	}
	seen(t, "matrix: %s carry traffic, %s hold a volume each, %d unknown devices left alone",
		strings.Join(nicModels, " "), strings.Join(diskModels, " "), len(strangers))
	m.off()
}

func matrixOptions(t *testing.T, image, dir string, store *s3server.Server) box.Options {
	t.Helper()
	o := box.Options{Image: image, Dir: dir, Memory: "1536M"}
	_, port, err := net.SplitHostPort(store.Address)
	must(t, err)
	var volumes, links strings.Builder
	for _, model := range diskModels {
		path := filepath.Join(dir, model+".img")
		must(t, box.Sparse(path, matrixDisk))
		o.Disks = append(o.Disks, vm.Disk{Path: path, Model: model, Serial: "data-" + model})
		fmt.Fprintf(&volumes, "      - {name: %s, size: 16MiB, disk: \"serial:data-%s\", store: {driver: s3, endpoint: \"http://10.0.2.2:%s\", "+
			"region: us-east-1, bucket: %s, access_key: %s, secret_key: %s}}\n", model, model, port, store.Bucket, store.AccessKey, store.SecretKey)
	}
	for i, model := range nicModels {
		// The host's side of each network is at .2; what comes in at its forward goes to .15.
		user := vm.User{Forwards: []vm.Forward{{Guest: forwardPort(i)}}}
		o.NICs = append(o.NICs, vm.NIC{Model: model, MAC: dataNIC(i), Net: user})
		fmt.Fprintf(&links, "      - {nic: \"mac:%s\", name: data%d, addresses: [10.0.%d.15/24]}\n", dataNIC(i), i, 3+i)
	}
	for _, x := range strangers {
		o.ExtraArgs = append(o.ExtraArgs, "-device", x.device)
	}
	o.Config = fmt.Appendf(nil, `version: 1
hostname: matrix
network: {management: {nic: "mac:52:54:00:72:61:01", dhcp: true}}
time: {ntp: []}
plugins:
  gateway:
    nbd: {listen: ["tcp::10809"]}
    volumes:
%s  dataplane:
    links:
%s`, volumes.String(), links.String())
	return o
}

func dataNIC(i int) string  { return fmt.Sprintf("52:54:00:72:62:%02x", i) }
func forwardPort(i int) int { return 7000 + i }

// hardware is what `ratchetctl hw list -o json` says of a device.
type hardware struct {
	ID, Place, Kind, Model, Driver, Owner, Why string
	Supported                                  bool
	Verdict                                    struct{ Decision, Code string }
}

// findsAll: every device is listed with a driver and an owner, and strangers with neither.
func (m *machine) findsAll(t *testing.T) {
	t.Helper()
	byID, byPlace := map[string]hardware{}, map[string]hardware{}
	for _, d := range decode[struct{ Devices []hardware }](t, []byte(m.ctl("hw", "list", "-o", "json"))).Devices {
		byID[d.ID], byPlace[d.Place] = d, d
	}
	want := map[string]string{}
	for i := range nicModels {
		want["mac:"+dataNIC(i)] = "dataplane"
	}
	for _, model := range diskModels {
		want["serial:data-"+model] = "gateway"
	}
	for id, owner := range want {
		if d := byID[id]; !d.Supported || d.Driver == "" || d.Owner != owner || d.Verdict.Decision != "released" {
			t.Errorf("%s: %+v, want it released and with %s", id, d, owner)
		}
	}
	for _, x := range strangers {
		if d, ok := byPlace[x.place]; !ok || d.Supported || d.Driver != "" || d.Why == "" {
			t.Errorf("unsupported device at %s: %+v, want it listed, with a reason and without a driver", x.place, d)
		}
	}
}

// carries knocks at a NIC from its host: the answer, even a refusal, is traffic in both directions.
func (m *machine) carries(t *testing.T, i int) {
	t.Helper()
	await(t, stepLimit, nicModels[i]+" to carry traffic", func() (string, bool) {
		if c, err := net.DialTimeout("tcp", m.Forward(forwardPort(i)), time.Second); err == nil {
			c.Close()
		}
		for _, l := range decode[struct {
			Links []struct {
				NIC       string `json:"nic"`
				Carrier   bool   `json:"carrier"`
				Problem   string `json:"problem"`
				RxPackets uint64 `json:"rx_packets"`
				TxPackets uint64 `json:"tx_packets"`
			} `json:"links"`
		}](t, []byte(m.ctl("dataplane", "links", "-o", "json"))).Links {
			if l.NIC == "mac:"+dataNIC(i) {
				return fmt.Sprintf("%+v", l), l.Carrier && l.Problem == "" && l.RxPackets > 0 && l.TxPackets > 0
			}
		}
		return "no such link", false
	})
}

// stores writes to the volume on a disk, makes it durable, and reads it back.
func (m *machine) stores(t *testing.T, model string) {
	t.Helper()
	args := []string{"-f", "raw", "-c", "write -P 0x5a 0 1M", "-c", "flush", "-c", "read -P 0x5a 0 1M", "-c", "read -P 0 4M 64k"}
	if out := tool(t, nil, "qemu-io", append(args, m.NBD(model))...); bytes.Contains([]byte(out), []byte("failed")) {
		t.Errorf("volume on %s:\n%s", model, out)
	}
}

// bootsFrom starts the image by UEFI from a disk of each model. OVMF has no driver for megasas, whose UEFI driver is in
// the option ROM of real boards: there the kernel is loaded directly, and finds the same boot disk.
func (s *counterSuite) bootsFrom(t *testing.T) {
	for _, model := range diskModels {
		t.Run(model, func(t *testing.T) {
			t.Parallel()
			m := boot(t, box.Options{
				CPUs:  sideBySide,
				Image: s.image, Dir: s.machine("from-" + model), UEFI: model != "megasas", BootDisk: model, Config: []byte("version: 1\n"),
			})
			line := m.released("provisioned")
			m.types("power off", `ratchet: stopping`)
			m.ended()
			seen(t, "booted from %s: %s", model, line)
		})
	}
}
