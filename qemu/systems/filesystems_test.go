package systems

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ratchetos/ratchet/plugins/gateway/api"
	"github.com/ratchetos/ratchet/qemu/box"
	"github.com/ratchetos/ratchet/qemu/guest"
	"github.com/ratchetos/ratchet/qemu/powercut"
	"github.com/ratchetos/ratchet/qemu/s3server"
	"github.com/ratchetos/ratchet/qemu/vm"
)

// filesystemsConfig has two volumes on one disk, answered from memory: only a FLUSH makes anything safe. XFS wants 300 MiB.
const filesystemsConfig = `version: 1
hostname: filesystems
network: {management: {nic: "mac:52:54:00:72:61:01", dhcp: true}}
time: {ntp: []}
plugins:
  gateway:
    volumes:
      - name: ext4
        size: 64MiB
        disk: serial:ratchet-data
        ack: ring
        store: {driver: s3, endpoint: "http://10.0.2.2:%[1]s", region: us-east-1, bucket: %[2]s, access_key: %[3]s, secret_key: %[4]s}
      - name: xfs
        size: 320MiB
        disk: serial:ratchet-data
        ack: ring
        share: 2
        store: {driver: s3, endpoint: "http://10.0.2.2:%[1]s", region: us-east-1, bucket: %[2]s, access_key: %[3]s, secret_key: %[4]s}
    nbd: {listen: ["tcp::10809"]}
`

// filesystemCuts is how often the power fails; make soak does it more often with a client that checks every block.
const filesystemCuts = 1

// filesystems puts an ext4 and an XFS on two volumes of one disk, mounts them in another machine, and cuts the power of
// both machines while files are written. The appliance's disk loses what was not flushed. All that was synced must be
// there after the kernel has replayed the journals, and the filesystems' own checkers find nothing.
func filesystems(t *testing.T) {
	t.Parallel()
	dir, image := workspace(t, "filesystems", "full")
	store, err := s3server.Start(t.Context(), s3server.Options{Dir: filepath.Join(dir, "s3")})
	must(t, err)
	t.Cleanup(func() { store.Stop() })
	_, port, err := net.SplitHostPort(store.Address)
	must(t, err)
	built, err := guest.Build(t.Context(), guest.Options{
		Program: "github.com/ratchetos/ratchet/qemu/systems/fsclient", Dir: filepath.Join(dir, "client"),
		Modules: []string{"virtio_pci", "virtio_blk", "crc32c_generic", "ext4", "xfs"},
	})
	must(t, err)
	client := vm.Direct{Kernel: built.Kernel, Initrd: built.Initrd}
	data := filepath.Join(dir, "data.img")
	must(t, box.Sparse(data, 192<<20))
	options := box.Options{
		Image: image, Dir: filepath.Join(dir, "box"), CPUs: sideBySide,
		Config: fmt.Appendf(nil, filesystemsConfig, port, store.Bucket, store.AccessKey, store.SecretKey),
	}

	var synced [2]int
	for cut := 0; ; cut++ {
		disk, err := powercut.Open(data)
		must(t, err)
		moment := newMoment()
		disk.Before = moment.before
		server, err := disk.Serve(t.Context())
		must(t, err)
		options.Disks = []vm.Disk{{Path: server.Filename, Serial: "ratchet-data"}}
		m := boot(t, options)
		m.ready()
		if cut == 0 {
			m.login()
			makeFilesystems(t, m, dir)
		} else {
			fsClient(t, client, m, dir, fmt.Sprintf("%d,%d", synced[0], synced[1])).ends(t)
			fsck(t, m, dir)
		}
		if cut == filesystemCuts {
			m.Kill()
			must(t, server.Stop())
			must(t, disk.Close())
			break
		}
		c := fsClient(t, client, m, dir, "no")
		synced = c.writes(t, 40)
		moment.await(t)
		m.Kill() // the box first: what the client is told after this moment is nothing
		must(t, c.vm.Close())
		loss, err := disk.Cut(uint64(cut) + 1)
		must(t, err)
		moment.pass() // to a disk without power
		must(t, server.Stop())
		must(t, disk.Close())
		seen(t, "power cut while an ext4 and an XFS on volumes of one disk are written: %d and %d files were synced; of the disk %d sectors were not flushed, %d of them lost",
			synced[0]+1, synced[1]+1, loss.Unflushed, loss.Dropped)
	}
	seen(t, "every synced file is there, e2fsck and xfs_repair find nothing")
}

// moment is when the power fails: a flush that never happens, after writes that did.
type moment struct {
	armed        atomic.Bool
	come, passed chan struct{}
	once         sync.Once
}

func newMoment() *moment { return &moment{come: make(chan struct{}), passed: make(chan struct{})} }

// before holds the first flush up once somebody waits for it.
func (m *moment) before(flush bool) {
	if flush && m.armed.Load() {
		m.once.Do(func() { close(m.come) })
		<-m.passed
	}
}

func (m *moment) await(t *testing.T) {
	t.Helper()
	m.armed.Store(true)
	select {
	case <-m.come:
	case <-within(t, stepLimit).Done():
		t.Fatal("the appliance does not flush its disk")
	}
}

func (m *moment) pass() { close(m.passed) }

func makeFilesystems(t *testing.T, m *machine, dir string) {
	t.Helper()
	for name, mkfs := range map[string][]string{"ext4": {"mkfs.ext4", "-q", "-F"}, "xfs": {"mkfs.xfs", "-q", "-f"}} {
		await(t, stepLimit, name+" to be attached", func() (string, bool) {
			s := decode[api.Volume](t, []byte(m.ctl("volume", "show", name, "-o", "json")))
			return fmt.Sprintf("%+v", s), s.State == "attached"
		})
		path := filepath.Join(dir, name+".img")
		size := map[string]int64{"ext4": 64 << 20, "xfs": 320 << 20}[name]
		must(t, box.Sparse(path, size))
		tool(t, nil, mkfs[0], append(mkfs[1:], path)...)
		tool(t, nil, "nbdcopy", "--flush", path, m.NBD(name))
	}
}

// fsck copies the volumes and has the filesystems' own tools look at them. Their journals are clean by now.
func fsck(t *testing.T, m *machine, dir string) {
	t.Helper()
	for name, check := range map[string][]string{"ext4": {"e2fsck", "-f", "-n"}, "xfs": {"xfs_repair", "-n", "-f"}} {
		path := filepath.Join(dir, name+".img")
		must(t, os.RemoveAll(path))
		tool(t, nil, "nbdcopy", m.NBD(name), path)
		tool(t, nil, check[0], append(check[1:], path)...)
	}
}

// fsGuest is the machine with the mounts.
type fsGuest struct{ vm *vm.VM }

func fsClient(t *testing.T, firmware vm.Direct, m *machine, dir, check string) *fsGuest {
	t.Helper()
	firmware.Cmdline = "console=ttyS0 quiet panic=-1 no_timer_check fsclient.check=" + check
	g, err := vm.Start(t.Context(), vm.Config{
		Name: "fsclient", Memory: "512M", Firmware: firmware, Dir: filepath.Join(dir, "client"), NoReboot: true, Limit: 10 * time.Minute,
		Disks: []vm.Disk{{Path: m.NBD("ext4")}, {Path: m.NBD("xfs")}},
	})
	must(t, err)
	t.Cleanup(func() { g.Close() })
	return &fsGuest{g}
}

// writes waits until both filesystems have so many synced files, and says how many they had when it stopped looking.
func (g *fsGuest) writes(t *testing.T, files int) (synced [2]int) {
	t.Helper()
	ctx := within(t, bootLimit)
	for synced[0] < files || synced[1] < files {
		line, err := g.vm.ExpectLine(ctx, `guest: (?:/dev/vd([ab]) synced ([0-9]+)|failed: (.*))`)
		must(t, err)
		if line.Groups[3] != "" {
			t.Fatalf("in the guest: %s", line.Groups[3])
		}
		n, err := strconv.Atoi(line.Groups[2])
		must(t, err)
		synced[line.Groups[1][0]-'a'] = n
	}
	return synced
}

func (g *fsGuest) ends(t *testing.T) {
	t.Helper()
	end, err := g.vm.ExpectLine(within(t, bootLimit), `guest: (done|failed: .*)`)
	must(t, err)
	if end.Groups[1] != "done" {
		t.Fatalf("in the guest: %s", end.Groups[1])
	}
	_, err = g.vm.Wait(within(t, stepLimit))
	must(t, err)
}
