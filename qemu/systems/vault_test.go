package systems

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ratchetos/ratchet/boot/luks"
	"github.com/ratchetos/ratchet/image/disk"
	"github.com/ratchetos/ratchet/image/keys"
	"github.com/ratchetos/ratchet/qemu/box"
)

// vault is what docs/howto/move-data-to-a-new-box.md and open-data-on-another-machine.md promise: STATE and DATA are
// readable for this box alone, for cryptsetup with the recovery key, and for a new box that was given the key.
func (s *counterSuite) vault(t *testing.T) {
	t.Parallel()
	dir := s.machine("vault")
	m := boot(t, s.options(t, dir))
	m.released("provisioned")
	m.login()
	m.off()

	ring, _, err := keys.Development("")
	must(t, err)
	recovery, err := ring.RecoveryKey()
	must(t, err)
	for _, part := range []string{disk.State, disk.Data} {
		headerOnHost(t, dir, part, recovery)
	}
	seen(t, "STATE and DATA open with cryptsetup and the recovery key, and hold nothing in clear")

	s.movedDisk(t, dir, recovery)
	s.stateShut(t, dir)
}

// movedDisk is an RMA: the disk of a dead box, and a box whose TPM has never seen it.
func (s *counterSuite) movedDisk(t *testing.T, from, recovery string) {
	dir := s.machine("vault-rma")
	must(t, box.Clone(dir, from))
	must(t, os.RemoveAll(filepath.Join(dir, "tpm")))
	m := boot(t, s.options(t, dir))
	ctx := within(t, bootLimit)
	say := func(pattern, line string) {
		t.Helper()
		_, err := m.Expect(ctx, pattern)
		must(t, err)
		must(t, m.SendLine(line))
	}
	say(`press Enter within .* for the recovery console`, "")
	say(`recovery> `, "accept")
	say(`recovery key \(not shown`, "AAAA-AAAA-AAAA-AAAA-AAAA-AAAA-AAAA-AAAA")
	_, err := m.ExpectLine(ctx, `not the recovery key of this box`)
	must(t, err)
	say(`recovery> `, "accept")
	say(`recovery key \(not shown`, strings.ToLower(recovery))
	m.released("accepted")
	m.counter() // with the login from the old box: STATE is the same
	m.ctl("power", "reboot")
	m.released("clean")
	m.off()
	seen(t, "the disk in another box: isolated, opened with the recovery key at the console, released since then, accounts kept")
}

// stateShut: who makes STATE unreadable does not get a box with fresh accounts. The development image would mend a box
// with its recovery key; a keyslot that the key does not open either is past mending.
func (s *counterSuite) stateShut(t *testing.T, from string) {
	dir := s.machine("vault-shut")
	must(t, box.Clone(dir, from))
	path := filepath.Join(dir, "disk.img")
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	must(t, err)
	defer f.Close()
	p, err := box.Partition(path, disk.State)
	must(t, err)
	_, err = f.WriteAt(bytes.Repeat([]byte{0x5a}, luks.DataOffset-luks.HeaderSize), p.Start+luks.HeaderSize)
	must(t, err)
	m := boot(t, s.options(t, dir))
	next := m.isolated("vault-shut")
	m.types("power off", `ratchet: stopping`)
	m.ended()
	s.attack(t, rowIntents, "keyslots of STATE destroyed", "isolated, vault-shut")
	seen(t, "keyslots of STATE destroyed: isolated, vault-shut, next: %s", next)
}

// headerOnHost reads a partition as an operator does who has the disk in another machine.
func headerOnHost(t *testing.T, dir, part, recovery string) {
	t.Helper()
	path := filepath.Join(dir, "disk.img")
	p, err := box.Partition(path, part)
	must(t, err)
	f, err := os.Open(path)
	must(t, err)
	defer f.Close()
	head := make([]byte, luks.DataOffset+1<<20)
	_, err = io.ReadFull(io.NewSectionReader(f, p.Start, p.Size), head)
	must(t, err)
	// An ext4 would have its magic at 1080 of the data; noise has it once in 65,536 runs of this test.
	if bytes.HasPrefix(head[luks.DataOffset+1080:], []byte{0x53, 0xef}) || len(bytes.Trim(head[luks.DataOffset:], "\x00")) == 0 {
		t.Errorf("%s is not encrypted", part)
	}
	volume := filepath.Join(dir, part+".luks")
	must(t, os.WriteFile(volume, head, 0o600))
	tool(t, nil, "env", "PATH="+os.Getenv("PATH")+":/usr/sbin", "cryptsetup", "--disable-locks", "isLuks", "--type", "luks2", volume)
	key := volume + ".key"
	must(t, os.WriteFile(key, []byte(strings.ReplaceAll(recovery, "-", "")), 0o600))
	tool(t, nil, "env", "PATH="+os.Getenv("PATH")+":/usr/sbin", "cryptsetup", "--disable-locks", "open", "--test-passphrase", "--key-file", key, volume)
}
