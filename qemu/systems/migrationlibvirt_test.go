package systems

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ratchetos/ratchet/plugins/migration/agent/wire"
	migration "github.com/ratchetos/ratchet/plugins/migration/api"
	"github.com/ratchetos/ratchet/plugins/migration/hypervisor/libvirt/domxml"
	"github.com/ratchetos/ratchet/plugins/migration/hypervisor/libvirt/libvirttest"
	"github.com/ratchetos/ratchet/plugins/migration/model"
	"github.com/ratchetos/ratchet/qemu/lab"
	"github.com/ratchetos/ratchet/qemu/lab/load"
)

// libvirtHost is one host of the box's configuration: reached over TLS with a certificate, and sending to the other over TLS.
const libvirtHost = `      - name: %[1]s
        libvirt: "tls:10.0.2.2:%[2]s"
        tls: {ca: %[3]q, certificate: %[4]q, key: %[5]q, name: %[1]s}
        stream: {address: 127.0.0.1, listen: 127.0.0.1}
        networks: {segment: user}
`

// libvirtGuest is the VM that moves between daemons.
const libvirtGuest = "web2"

// libvirts are two hosts with libvirtd beside the box.
type libvirts struct {
	dir     string
	daemons map[string]*libvirttest.Daemon
	config  string
}

func newLibvirts(t testing.TB) *libvirts {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "lv") //nolint:usetesting // sockets of QEMU lie deep below it, and their paths are bounded
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	must(t, os.Chmod(dir, 0o755))
	pki, err := libvirttest.NewPKI()
	must(t, err)
	cert, key, err := pki.Issue("box")
	must(t, err)
	l := &libvirts{dir: dir, daemons: map[string]*libvirttest.Daemon{}}
	for _, name := range []string{"rack3", "rack4"} {
		d, err := libvirttest.Start(dir, name, pki)
		must(t, err)
		t.Cleanup(d.Close)
		l.daemons[name] = d
		_, port, err := net.SplitHostPort(d.TLS)
		must(t, err)
		l.config += fmt.Sprintf(libvirtHost, name, port, pki.CA(), cert, key)
	}
	return l
}

// start boots a guest with an agent on a host. It is up long before it is moved.
func (l *libvirts) start(t testing.TB, image lab.Image, host string) {
	t.Helper()
	s := model.Shape{
		Version: model.ShapeVersion, VM: libvirtGuest, Machine: "pc-i440fx-7.2", Accel: "tcg", CPU: model.CPU{Model: "qemu64"}, VCPUs: 1, MaxVCPUs: 2,
		Memory: model.Memory{Boot: 192 << 20}, Boot: image.Shape(libvirtGuest).Boot,
		NICs:   []model.NIC{{ID: "n0", Model: "virtio-net-pci", MAC: "52:54:00:00:00:02", Network: "segment", Addr: "0x3"}},
		Others: []model.Device{{ID: "agent", Args: "virtserialport,name=" + wire.Port}, {ID: "lab", Args: "virtserialport,name=" + load.Port}},
	}
	for _, file := range []*string{&s.Boot.Kernel, &s.Boot.Initrd} { // where daemons may read
		text, err := os.ReadFile(*file)
		must(t, err)
		*file = filepath.Join(l.dir, filepath.Base(*file))
		must(t, os.WriteFile(*file, text, 0o644))
	}
	doc, err := domxml.Build(s, domxml.Networks{"segment": "user"})
	must(t, err)
	path := filepath.Join(l.dir, libvirtGuest+".xml")
	must(t, os.WriteFile(path, []byte(doc.String()), 0o644))
	if out, err := l.daemons[host].Virsh("create", path); err != nil {
		t.Fatalf("start %s on %s: %v: %s", libvirtGuest, host, err, out)
	}
}

// runsOn holds the guest to one host, by the word of both daemons.
func (l *libvirts) runsOn(t *testing.T, host string) {
	t.Helper()
	for name, d := range l.daemons {
		out, err := d.Virsh("domstate", libvirtGuest)
		if runs := err == nil && strings.TrimSpace(out) == "running"; runs != (name == host) {
			t.Errorf("%s on %s: %q (%v), and it is to run on %s", libvirtGuest, name, out, err, host)
		}
	}
}

// movesByLibvirt moves the guest between two daemons, to a type with another vCPU, and back after one of them has crashed.
func (s *migrationSuite) movesByLibvirt(t *testing.T) {
	t.Helper()
	took := s.moveByLibvirt(t, "rack3", "rack4", "--vcpus", "2")
	seen(t, "libvirt over TLS: a guest to another host, with a vCPU more, in %s", took)
	if testing.Short() {
		return
	}
	must(t, s.libvirts.daemons["rack3"].Restart())
	took = s.moveByLibvirt(t, "rack4", "rack3")
	seen(t, "back in %s, after its libvirtd was killed and started again", took)
}

func (s *migrationSuite) moveByLibvirt(t *testing.T, from, to string, flags ...string) (took time.Duration) {
	t.Helper()
	s.seesVM(t, libvirtGuest, from)
	flags = append([]string{"migrate", "apply", libvirtGuest, "--to", to, "--allow-post-copy", "-o", "json"}, flags...)
	reply := decode[migration.ApplyReply](t, []byte(s.m.ctl(flags...)))
	if len(reply.Moves) != 1 {
		t.Fatalf("apply: %+v", reply)
	}
	m := s.becomes(t, reply.Moves[0].ID, "ended", func(m migration.Move) bool { return !m.Ended.IsZero() })
	if m.State != "moved" {
		t.Fatalf("the move to %s ended as %s: %s; %s", to, m.State, m.Problem, strings.Join(m.Why, "; "))
	}
	s.libvirts.runsOn(t, to)
	return m.Ended.Sub(m.Began).Round(100 * time.Millisecond)
}
