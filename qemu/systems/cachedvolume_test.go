package systems

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ratchetos/ratchet/plugins/gateway/api"
	"github.com/ratchetos/ratchet/qemu/box"
)

// TestSystemCachedVolume writes to a cached volume with the clients that people use, while everything that can go away
// goes away: the store, space in the log, the power, the machine itself. Nothing that was acknowledged may be missing.
func TestSystemCachedVolume(t *testing.T) {
	t.Run("plugin killed", pluginKilled)
	t.Run("administration", volumeAdmin)
	t.Run("sealed", sealedVolume)
	t.Run("targets", targets)
	t.Run("filesystems", filesystems)
	t.Run("life", volumeLife)
}

// volumeLife is that of one volume, from a blank disk to another machine.
func volumeLife(t *testing.T) {
	t.Parallel()
	v := newVolumeSuite(t, "cached-volume")
	ext4 := v.foreignDisk("first")
	must(t, os.MkdirAll(filepath.Dir(ext4), 0o755))
	must(t, box.Sparse(ext4, 64<<20))
	tool(t, nil, "mkfs.ext4", "-q", "-F", ext4)
	before := digest(t, ext4)
	v.boot(t, "first")
	v.m.released("provisioned")
	v.m.login()
	v.attached(t, "main")

	v.foreign(t, before)
	v.badConfig(t)
	v.clients(t)
	v.remoteDown(t)
	v.strangers(t)
	v.powerCut(t)
	v.move(t)
}

// foreign: a disk with somebody's filesystem is not touched until its owner says so.
func (v *volumeSuite) foreign(t *testing.T, before [32]byte) {
	path := v.foreignDisk("first")
	s := v.becomes(t, "foreign", "needs-claim", func(s api.Volume) bool { return s.State == "needs-claim" })
	if !strings.Contains(s.Message, "ext2/3/4") || !strings.Contains(s.Message, "ratchetctl hw claim serial:ratchet-foreign --erase") {
		t.Errorf("the volume says %q", s.Message)
	}
	v.m.refused(1, []string{"ext2/3/4", "--erase"}, "hw", "claim", "serial:ratchet-foreign")
	if digest(t, path) != before {
		t.Fatal("a disk with foreign content was written to")
	}
	v.m.ctl("hw", "claim", "serial:ratchet-foreign", "--erase")
	v.attached(t, "foreign")
	v.io(t, "foreign", "write -P 5 1M 64k", "flush", "read -P 5 1M 64k", "read -P 0 2M 64k")
	seen(t, "disk with ext4 left alone until hw claim --erase, then it serves")
}

// badConfig: one report with everything that is wrong, and nothing changes.
func (v *volumeSuite) badConfig(t *testing.T) {
	config, count := v.m.ctl("config", "show"), v.m.counter()
	path := filepath.Join(v.dir, "bad.yaml")
	must(t, os.WriteFile(path, []byte(`version: 1
hostnam: typo
network: {management: {nic: "mac:52:54:00:72:61:01", dhcp: perhaps}}
plugins:
  gateway:
    volumes:
      - name: main
        size: 32MiB
        disk: serial:nowhere
        store: {driver: dir, path: /srv}
  dataplane:
    links:
      - {nic: "mac:52:54:00:72:61:01"}
`), 0o600))
	v.m.refused(3, []string{
		path + ":2:1", `"hostnam"`, path + ":3:", "perhaps", path + ":9:", "serial:nowhere", path + ":13:", "the management network",
	}, "config", "apply", path)
	if now := v.m.counter(); v.m.ctl("config", "show") != config || now != count {
		t.Error("a configuration with errors changed something")
	}
	seen(t, "bad configuration: 4 kinds of error in one report, exit code 3, nothing changed")
}

// clients writes with nbdcopy and qemu-io: whole, in sectors, zeroes, discards, FUA.
func (v *volumeSuite) clients(t *testing.T) {
	v.copyIn(t, v.fresh(16<<20))()
	v.io(t, "main",
		"write -P 7 512 512", "write -f -P 9 5000 3000", "write -z 2M 1M", "discard 4M 1M", "write -P 3 20M 4M", "flush",
		"read -P 7 512 512", "read -P 9 5000 3000", "read -P 0 2M 1M", "read -P 0 4M 1M", "read -P 3 20M 4M")
	v.fill(512, 512, 7)
	v.fill(5000, 3000, 9)
	v.fill(2<<20, 1<<20, 0)
	v.fill(4<<20, 1<<20, 0)
	v.fill(20<<20, 4<<20, 3)
	v.same(t)
	v.uploads(t)
	seen(t, "16 MiB by nbdcopy, sectors, zeroes, discard and FUA by qemu-io: read back, uploaded")
}

// remoteDown: writes go on without the store until the log is full; then they wait, and nothing is lost.
func (v *volumeSuite) remoteDown(t *testing.T) {
	v.down()
	v.io(t, "main", "write -P 4 24M 2M", "flush", "read -P 4 24M 2M")
	v.fill(24<<20, 2<<20, 4)
	v.becomes(t, "main", "detached and dirty", func(s api.Volume) bool {
		return s.State == "detached" && s.Remote == "down" && s.DirtyBytes >= 2<<20
	})
	// More than the log holds: the writer cannot end before the store is back.
	wait := v.copyIn(t, v.fresh(16<<20))
	var last uint64
	still := 0
	s := v.becomes(t, "main", "full", func(s api.Volume) bool {
		if still++; s.LogBytes != last {
			last, still = s.LogBytes, 0
		}
		return still >= 5 && s.LogBytes > s.LogSize*3/4
	})
	v.up(t)
	wait()
	v.uploads(t)
	v.attached(t, "main")
	v.same(t)
	seen(t, "store down: writes go on until %s of %s log are used, then wait; store up: uploaded, nothing lost", mib(s.LogBytes), mib(s.LogSize))
}

// strangers: what does not speak the protocol is disconnected, and nobody else notices.
func (v *volumeSuite) strangers(t *testing.T) {
	for _, port := range []int{box.NBDPort, box.APIPort} {
		garbage(t, v.m.Forward(port), v.fresh(64<<10))
		garbage(t, v.m.Forward(port), []byte("GET / HTTP/1.0\r\n\r\n"))
	}
	v.m.ctl("status")
	v.same(t)
	seen(t, "garbage on the NBD and API ports: disconnected, service unharmed")
}

// powerCut: the power fails while the store is away, so the log is all there is.
func (v *volumeSuite) powerCut(t *testing.T) {
	v.down()
	v.io(t, "main", "write -P 8 27M 3M", "write -f -P 6 31M 64k", "flush")
	v.fill(27<<20, 3<<20, 8)
	v.fill(31<<20, 64<<10, 6)
	v.m.Kill()
	v.boot(t, "first")
	v.m.released("clean")
	v.io(t, "main", "read -P 8 27M 3M", "read -P 6 31M 64k")
	v.up(t)
	v.uploads(t)
	v.same(t)
	seen(t, "power cut with the store down: everything flushed is there, then uploaded")
}

// move opens the volume on a second machine with blank disks: all of it comes from the store, also under partial writes.
func (v *volumeSuite) move(t *testing.T) {
	v.m.off()
	v.boot(t, "second")
	v.m.released("provisioned")
	v.m.login()
	v.attached(t, "main")
	// Half a kilobyte into a block that is not here: the rest of it must come from below.
	v.io(t, "main", "write -P 2 5243392 512", "read -P 2 5243392 512", "flush")
	v.fill(5243392, 512, 2)
	v.same(t)
	s := v.show(t, "main")
	if s.Misses == 0 {
		t.Error("nothing was read from the store")
	}
	v.uploads(t)
	v.m.off()
	seen(t, "second machine, blank disk: partial write over absent data, all 32 MiB right, %d reads from the store", s.Misses)
}
