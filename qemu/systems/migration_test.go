package systems

import (
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ratchetos/ratchet/plugins/gateway/api"
	migration "github.com/ratchetos/ratchet/plugins/migration/api"
	"github.com/ratchetos/ratchet/plugins/migration/model"
	"github.com/ratchetos/ratchet/qemu/box"
	"github.com/ratchetos/ratchet/qemu/lab"
	"github.com/ratchetos/ratchet/qemu/s3server"
	"github.com/ratchetos/ratchet/qemu/vm"
)

// migrationConfig is a box that moves a VM between two hosts beside it, whose disk is a volume of its own gateway.
const migrationConfig = `version: 1
hostname: migration
network: {management: {nic: "mac:52:54:00:72:61:01", dhcp: true}}
time: {ntp: []}
plugins:
  gateway:
    volumes:
      - name: web1
        size: 16MiB
        disk: serial:ratchet-data
        store: {driver: s3, endpoint: "http://10.0.2.2:%[1]s", region: us-east-1, bucket: %[2]s, access_key: %[3]s, secret_key: %[4]s}
    nbd: {listen: ["tcp::10809"]}
  migration:
    gateway: true
    goal: {max_gap: 2s}
    hosts:
      - {name: rack1, vmhost: "10.0.2.2:%[5]s"}
      - {name: rack2, vmhost: "10.0.2.2:%[6]s"}
%[8]s    types: [{name: large, vcpus: 2, nic: e1000}]
    schedule:
      links:
        - {name: uplink, capacity: 64MiB, watch: {metrics: "http://10.0.2.2:%[7]s/metrics", metric: 'sent_bytes_total{link="uplink"}', every: 1s}}
      hosts: # this machine is both, and busy with guests without KVM: what it has left would slow moves down
        - name: rack1
          cpu: {rate: 8GiB, watch: {every: 1s}}
          memory: {size: 8GiB, watch: {metrics: "http://10.0.2.2:%[7]s/metrics", metric: 'memory_available_bytes{host="rack1"}', free: true, every: 1s}}
        - {name: rack2, cpu: {rate: 8GiB, watch: {every: 1s}}, memory: {watch: {every: 1s}}}
`

// guestDisk is the volume as the guest sees it: as many blocks are written and read back.
const (
	guestDisk   = "web1-disk"
	guestBlocks = 256
)

// migrationSuite is a booted box, two hosts with bare QEMU beside it that the box has enrolled, and a guest whose disk is a
// volume of the box.
type migrationSuite struct {
	t        testing.TB
	m        *machine
	lab      *lab.Lab
	hosts    map[string]*lab.Host
	guest    *lab.Guest
	meter    *meter
	libvirts *libvirts
	ready    bool
}

// theMigration is made by the first row that wants it.
var theMigration *migrationSuite

func sharedMigration(t *testing.T) *migrationSuite {
	t.Helper()
	l := migrationRows.during(t)
	if theMigration != nil {
		if !theMigration.ready {
			t.Fatal("the box that the rows share could not be brought up; see the first of them")
		}
		return theMigration
	}
	s := &migrationSuite{t: l, hosts: map[string]*lab.Host{}, meter: newMeter(l)}
	theMigration = s
	s.libvirts = newLibvirts(l)
	l.Cleanup(func() { theMigration = nil })
	dir, image := workspace(l, "migration", "full")
	store, err := s3server.Start(l.Context(), s3server.Options{Dir: filepath.Join(dir, "s3")})
	must(l, err)
	l.Cleanup(func() { store.Stop() })
	_, storePort, err := net.SplitHostPort(store.Address)
	must(l, err)
	data := filepath.Join(dir, "data.img")
	must(l, box.Sparse(data, 64<<20))
	ports := freePorts(l, 2)
	s.m = boot(l, box.Options{
		Image: image, Dir: filepath.Join(dir, "box"), Limit: 20 * time.Minute,
		Config: fmt.Appendf(nil, migrationConfig, storePort, store.Bucket, store.AccessKey, store.SecretKey, ports[0], ports[1], s.meter.port, s.libvirts.config),
		Disks:  []vm.Disk{{Path: data, Serial: "ratchet-data"}},
	})
	// While it boots, so does the guest whose state the hosts will start from, unless that has been kept.
	s.lab = lab.New(l)
	shape := s.lab.Image.Shape("web1")
	shape.Disks = []model.Disk{{
		ID: "disk0", Model: "virtio-blk-pci", Serial: guestDisk, Size: 16 << 20, Bus: "pci.0", Addr: "0x4",
		Source: model.Source{Volume: &model.Volume{Name: "web1", Server: "tcp:" + s.m.Forward(box.NBDPort)}},
	}}
	s.guest, err = s.lab.GuestOf(shape)
	must(l, err)
	_, err = lab.State(l.Context(), s.lab.Image, shape)
	must(l, err)
	s.libvirts.start(l, s.lab.Image, "rack3")
	s.m.released("provisioned")
	s.m.login()
	for i, name := range []string{"rack1", "rack2"} {
		identity := s.m.ctl("migrate", "host", "enroll", name)
		secret := decode[api.MadeToken](l, []byte(s.m.ctl("volume", "token", "make", "web1", name, "-o", "json"))).Secret
		s.hosts[name], err = s.lab.Host(l.Context(), name, lab.HostOptions{
			Listen: "127.0.0.1:" + ports[i], Identity: []byte(identity), Tokens: map[string]string{"web1": secret},
		})
		must(l, err)
	}
	must(l, s.hosts["rack1"].Restore(within(l, bootLimit), s.guest))
	s.ready = true
	return s
}

// freePorts are ports of 127.0.0.1 that nobody listens at.
func freePorts(t testing.TB, n int) (ports []string) {
	t.Helper()
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		must(t, err)
		defer l.Close()
		_, port, err := net.SplitHostPort(l.Addr().String())
		must(t, err)
		ports = append(ports, port)
	}
	return ports
}

// TestSystemMigration moves a guest that runs, writes and talks between two hosts, with the plugin inside the booted box:
// to another type and back, with faults on the way; and another one between two hosts with libvirtd.
func TestSystemMigration(t *testing.T) {
	s := sharedMigration(t)
	s.sees(t, "rack1")
	must(t, s.guest.Memory(within(t, stepLimit), 16, 2<<20))
	must(t, s.guest.Disk(within(t, stepLimit), guestDisk, guestBlocks, 20))

	began := time.Now()
	plan := s.m.ctl("migrate", "plan", "web1", "--to", "rack2", "--type", "large")
	for _, word := range []string{"e1000", "vcpu"} {
		if !strings.Contains(strings.ToLower(plan), word) {
			t.Errorf("the plan says nothing of %q:\n%s", word, plan)
		}
	}
	m := s.moves(t, "rack2", "moved", "--type", "large")
	gap, lost := s.guest.Beats.Gap(began, time.Now())
	seen(t, "type changed on the way (NIC virtio to e1000, then 1 to 2 vCPUs): %s, manager's gap %d ms, longest silence %d ms, %d beats lost",
		m.Ended.Sub(m.Began).Round(100*time.Millisecond), m.Gap.Milliseconds(), gap.Milliseconds(), lost)
	s.runsOn(t, "rack2", 2)

	s.destinationDies(t)
	s.pluginDies(t)
	s.verify(t)
	s.movesByLibvirt(t)
}

// sees waits until the box shows all hosts and the VM on one.
func (s *migrationSuite) sees(t *testing.T, host string) {
	t.Helper()
	s.seesVM(t, "web1", host)
}

func (s *migrationSuite) seesVM(t *testing.T, vm, host string) {
	t.Helper()
	await(t, stepLimit, "all hosts to be up", func() (string, bool) {
		reply := decode[migration.HostsReply](t, []byte(s.m.asks("migrate", "hosts", "-o", "json")))
		away := slices.ContainsFunc(reply.Hosts, func(h migration.Host) bool { return h.State != "up" })
		return fmt.Sprintf("%+v", reply), len(reply.Hosts) == 4 && !away
	})
	await(t, stepLimit, "the box to see "+vm+" on "+host, func() (string, bool) {
		reply := decode[migration.VMsReply](t, []byte(s.m.asks("migrate", "vms", "-o", "json")))
		there := slices.DeleteFunc(slices.Clone(reply.VMs), func(v migration.VM) bool { return v.Name != vm })
		return fmt.Sprintf("%+v", reply), len(there) == 1 && there[0].Host == host && there[0].State == "running"
	})
}

// begins orders a move and returns its ID.
func (s *migrationSuite) begins(t *testing.T, to string, flags ...string) string {
	t.Helper()
	args := append([]string{"migrate", "apply", "web1", "--to", to, "-o", "json"}, flags...)
	reply := decode[migration.ApplyReply](t, []byte(s.m.ctl(args...)))
	if len(reply.Moves) != 1 {
		t.Fatalf("apply: %+v", reply)
	}
	return reply.Moves[0].ID
}

// becomes waits until a move pleases ok.
func (s *migrationSuite) becomes(t *testing.T, id, what string, ok func(migration.Move) bool) (m migration.Move) {
	t.Helper()
	await(t, stepLimit, id+" to be "+what, func() (string, bool) {
		reply := decode[migration.MovesReply](t, []byte(s.m.asks("migrate", "status", id, "-o", "json")))
		m = reply.Moves[0]
		return fmt.Sprintf("%+v", m), ok(m)
	})
	return m
}

// moves carries a move out and wants it to end so.
func (s *migrationSuite) moves(t *testing.T, to, state string, flags ...string) migration.Move {
	t.Helper()
	m := s.becomes(t, s.begins(t, to, flags...), state, func(m migration.Move) bool { return !m.Ended.IsZero() })
	if m.State != state {
		t.Fatalf("the move to %s ended as %s: %s; %s", to, m.State, m.Problem, strings.Join(m.Why, "; "))
	}
	return m
}

// runsOn holds the guest and the writer of its volume to one host.
func (s *migrationSuite) runsOn(t *testing.T, host string, vcpus int) {
	t.Helper()
	must(t, s.guest.Beating(within(t, stepLimit)))
	if running := s.guest.Runners.Running(); len(running) != 1 || running[0] != host+"/web1" {
		t.Errorf("the guest runs in %v, want %s", running, host)
	}
	c := s.hosts[host].Client()
	defer c.Close()
	shape, err := c.Shape(within(t, stepLimit), "web1")
	must(t, err)
	if shape.VCPUs != vcpus || shape.NICs[0].Model != "e1000" {
		t.Errorf("the VM on %s has %d vCPUs and a %s", host, shape.VCPUs, shape.NICs[0].Model)
	}
}

// destinationDies kills the QEMU that memory is being sent to: the guest stays where it is, as it was.
func (s *migrationSuite) destinationDies(t *testing.T) {
	id := s.begins(t, "rack1", "--bandwidth", "8MiB")
	s.becomes(t, id, "under way", func(m migration.Move) bool { return m.Sent > 0 || !m.Ended.IsZero() })
	must(t, s.hosts["rack1"].Kill("web1"))
	m := s.becomes(t, id, "undone", func(m migration.Move) bool { return !m.Ended.IsZero() })
	if m.State != "undone" || m.Problem == "" {
		t.Errorf("a move whose destination died ended as %s: %s", m.State, m.Problem)
	}
	s.runsOn(t, "rack2", 2)
	seen(t, "destination killed at %d MiB: undone, the guest runs where it was", m.Sent>>20)
}

// pluginDies kills the manager in the middle: the next process undoes what it finds, and the move can be made then.
func (s *migrationSuite) pluginDies(t *testing.T) {
	id := s.begins(t, "rack1", "--bandwidth", "8MiB")
	s.becomes(t, id, "under way", func(m migration.Move) bool { return m.Sent > 0 || !m.Ended.IsZero() })
	s.m.ctl("plugin", "restart", "migration", "--kill")
	m := s.becomes(t, id, "undone", func(m migration.Move) bool { return !m.Ended.IsZero() })
	if m.State != "undone" {
		t.Errorf("a move whose manager died ended as %s: %s", m.State, m.Problem)
	}
	s.runsOn(t, "rack2", 2)
	s.sees(t, "rack2")
	m = s.moves(t, "rack1", "moved")
	s.runsOn(t, "rack1", 2)
	seen(t, "plugin killed in the middle: the next process undoes it; then back in %s", m.Ended.Sub(m.Began).Round(100*time.Millisecond))
}

// verify reads every page and block that the guest has written, and holds events and writers to one runner.
func (s *migrationSuite) verify(t *testing.T) {
	memory, err := s.guest.VerifyMemory(within(t, stepLimit))
	must(t, err)
	disk, err := s.guest.VerifyDisk(within(t, stepLimit))
	must(t, err)
	must(t, s.guest.Runners.Err())
	if twins := s.guest.Beats.Twins(); len(twins) > 0 {
		t.Errorf("heartbeats %v came twice", twins)
	}
	writers := decode[api.WritersReply](t, []byte(s.m.ctl("volume", "writers", "web1", "-o", "json")))
	for _, term := range writers.Terms {
		if len(term.Writes) > 1 {
			t.Errorf("under epoch %d several have written: %v", term.Epoch, term.Writes)
		}
	}
	seen(t, "%d pages and %d blocks read back, 0 bad; never two runners: events of all QEMUs, one writer in each of %d epochs",
		memory.Checked, disk.Checked, len(writers.Terms))
}
