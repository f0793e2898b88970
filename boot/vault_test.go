package boot

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-tpm/tpm2"
	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"

	"github.com/ratchetos/ratchet/boot/counter"
	"github.com/ratchetos/ratchet/boot/internal/tpmtest"
	"github.com/ratchetos/ratchet/boot/vault"
	"github.com/ratchetos/ratchet/boot/verdict"
)

// files are Volumes whose partitions and mapped devices are files. What a mapped device holds is kept by
// its key, as on a disk.
type files struct {
	dir    string
	mu     sync.Mutex
	mapped map[string]string // name → file
	broken bool              // the kernel has no dm-crypt
	// mounted is STATE's device; noDriver says that the kernel has no ext4.
	mounted  string
	noDriver bool
}

var _ Volumes = (*files)(nil)

func (f *files) Open(path string) (Partition, error) { return deviceMapper{}.Open(path) }

func (f *files) Map(name, path string, m vault.Mapping) (string, error) {
	if f.broken {
		return "", errors.New("no dm-crypt")
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.mapped[name] != "" {
		return "", fmt.Errorf("%s is mapped already", name)
	}
	plain := filepath.Join(f.dir, fmt.Sprintf("%x", m.Key[:8]))
	file, err := os.OpenFile(plain, os.O_RDWR|os.O_CREATE, 0o600)
	if err == nil {
		err = errors.Join(file.Truncate(m.Size), file.Close())
	}
	f.mapped[name] = plain
	return plain, err
}

func (f *files) Unmap(name string) error { delete(f.mapped, name); return nil }

// Mount takes the file system of template.
func (f *files) Mount(node string) error {
	b, err := os.ReadFile(node)
	switch {
	case err != nil:
		return err
	case f.noDriver:
		return unix.ENODEV
	case !bytes.Contains(b, []byte("an empty file system")):
		return unix.EUCLEAN
	}
	f.mounted = node
	return nil
}

// Unmount implements Volumes.
func (f *files) Unmount() error { f.mounted = ""; return nil }

// vaulted is a world whose disk has STATE and DATA.
func vaulted(t *testing.T, kind string) *world {
	w := newWorld(t, kind)
	w.volumes = &files{dir: t.TempDir()}
	w.state, w.data = w.path+".state", w.path+".data"
	for _, path := range []string{w.state, w.data} {
		if err := os.WriteFile(path, make([]byte, 3<<20), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return w
}

// template is a file system of 1 MiB as far as its superblock says.
func template() (io.ReadCloser, error) {
	fs := make([]byte, 4096)
	copy(fs[1028:], []byte{0, 4, 0, 0}) // 1,024 blocks of 1 KiB
	copy(fs[2048:], "an empty file system")
	z, err := zstd.NewWriter(nil)
	if err != nil {
		return nil, err
	}
	return io.NopCloser(bytes.NewReader(z.EncodeAll(fs, nil))), nil
}

// holds checks what a released box got: STATE with its file system, DATA, core's key.
func (w *world) holds(r Result) {
	w.t.Helper()
	state, err := os.ReadFile(r.Report.BootDisk.State)
	if err != nil || !bytes.Contains(state, []byte("an empty file system")) {
		w.t.Errorf("STATE is %q without its file system (%v)", r.Report.BootDisk.State, err)
	}
	if w.volumes.mounted != r.Report.BootDisk.State {
		w.t.Errorf("STATE is %q, mounted is %q", r.Report.BootDisk.State, w.volumes.mounted)
	}
	if r.Report.BootDisk.Data != w.volumes.mapped[dataName] || len(w.volumes.mapped) != 2 || len(r.Secret) != 32 {
		w.t.Errorf("DATA %q of %v, %d bytes for core", r.Report.BootDisk.Data, w.volumes.mapped, len(r.Secret))
	}
}

// shut checks that nothing of the vault is left open.
func (w *world) shut(r Result) {
	w.t.Helper()
	if len(w.volumes.mapped) != 0 || w.volumes.mounted != "" || r.Secret != nil || r.Report.BootDisk.State != "" {
		w.t.Errorf("not all is shut: mapped %v, secret %t, %+v", w.volumes.mapped, r.Secret != nil, r.Report.BootDisk)
	}
}

func TestVault(t *testing.T) {
	for _, kind := range tpmtest.Kinds {
		t.Run(kind, func(t *testing.T) {
			w := vaulted(t, kind)
			first := w.boot()
			w.want(first, verdict.Released, "provisioned")
			w.holds(first)
			again := w.boot()
			w.want(again, verdict.Released, "clean")
			w.holds(again)
			if !bytes.Equal(first.Secret, again.Secret) || first.Report.BootDisk.State != again.Report.BootDisk.State {
				t.Error("the second boot opened something else")
			}
			if n := again.Report.TPM.Commands; n > 25 {
				t.Errorf("a clean boot took %d TPM commands, at most 25", n)
			}
			w.policy.Version = "2.0" // a release that the policy key signed
			next := w.boot()
			w.want(next, verdict.Released, "clean")
			w.holds(next)
			if !bytes.Equal(first.Secret, next.Secret) {
				t.Error("the next release has another secret")
			}
			w.off = true // another state of Secure Boot: a development image binds itself again
			off := w.boot()
			w.want(off, verdict.Released, "image-changed")
			w.holds(off)
			if !bytes.Equal(first.Secret, off.Secret) {
				t.Error("bound again to another secret")
			}
			w.want(w.boot(), verdict.Released, "clean")
		})
	}
}

// TestVaultStaysShut: a box in order whose STATE does not open is isolated.
func TestVaultStaysShut(t *testing.T) {
	for _, c := range []struct {
		name, reason string
		harm         func(*world)
	}{
		{"header of STATE", "no LUKS2 header", func(w *world) { w.spoil(w.state, 0, 32<<10) }},
		{"keyslot of STATE", "no keyslot opens", func(w *world) { w.spoil(w.state, 40<<10, 1<<10) }},
		{"STATE of another box", "no keyslot opens", func(w *world) {
			other := vaulted(w.t, "swtpm") // there is one simulator to a process
			other.policy.RecoveryKey = "ANOTHER-KEY"
			other.boot()
			b, err := os.ReadFile(other.state)
			if err = errors.Join(err, os.WriteFile(w.state, b, 0o600)); err != nil {
				w.t.Fatal(err)
			}
		}},
		{"no dm-crypt", "no dm-crypt", func(w *world) { w.volumes.broken = true }},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := vaulted(t, "simulator")
			w.want(w.boot(), verdict.Released, "provisioned")
			w.policy.Development, w.policy.RecoveryKey = false, ""
			w.want(w.boot(), verdict.Released, "clean")
			c.harm(w)
			r := w.boot()
			w.want(r, verdict.Isolated, "vault-shut")
			w.shut(r)
			w.capped()
			if !strings.Contains(r.Report.Box.Reason, c.reason) || !strings.Contains(r.Report.Box.Next, "accept") {
				t.Errorf("%+v", r.Report.Box)
			}
		})
	}
}

// TestStateDoesNotMount: a STATE that opens and holds no file system isolates the box as one that does not open. Its owner
// may have it made anew; DATA stays what it is. What the kernel cannot do is no reason for that.
func TestStateDoesNotMount(t *testing.T) {
	w := vaulted(t, "simulator")
	first := w.boot()
	w.want(first, verdict.Released, "provisioned")
	key := w.policy.RecoveryKey
	w.policy.Development, w.policy.RecoveryKey = false, ""
	w.want(w.boot(), verdict.Released, "clean")

	w.volumes.noDriver = true
	w.asked = "it was asked for"
	w.types("accept", key)
	r := w.boot()
	w.want(r, verdict.Isolated, "vault-shut")
	w.shut(r)
	w.volumes.noDriver, w.asked, w.console = false, "", nil
	r = w.boot()
	w.want(r, verdict.Released, "clean")
	w.holds(r)

	w.spoil(first.Report.BootDisk.State, 0, 4096)
	r = w.boot()
	w.want(r, verdict.Isolated, "vault-shut")
	w.shut(r)
	w.capped()
	if !strings.Contains(r.Report.Box.Reason, "STATE does not mount") || !strings.Contains(r.Report.Box.Next, "accept") {
		t.Errorf("%+v", r.Report.Box)
	}
	w.asked = "the next command of the verdict"
	w.types("accept", key)
	r = w.boot()
	w.shows("STATE does not mount", "a STATE without a file system is made anew")
	w.want(r, verdict.Released, "accepted")
	w.holds(r)
	if !strings.Contains(w.said.String(), "STATE is made anew") || !bytes.Equal(r.Secret, first.Secret) || r.Report.BootDisk.Data != first.Report.BootDisk.Data {
		t.Errorf("before %+v, after %+v\n%s", first.Report.BootDisk, r.Report.BootDisk, w.said.String())
	}
	w.asked, w.console = "", nil
	r = w.boot()
	w.want(r, verdict.Released, "clean")
	w.holds(r)
}

// TestDevelopmentMendsState: a development image needs nobody for that, and leaves DATA what it is, too.
func TestDevelopmentMendsState(t *testing.T) {
	w := vaulted(t, "simulator")
	first := w.boot()
	w.want(first, verdict.Released, "provisioned")
	w.volumes.noDriver = true
	r := w.boot()
	w.want(r, verdict.Isolated, "vault-shut")
	w.shut(r)
	w.volumes.noDriver = false

	w.spoil(first.Report.BootDisk.State, 0, 4096)
	r = w.boot()
	w.want(r, verdict.Released, "clean")
	w.holds(r)
	if !strings.Contains(w.said.String(), "STATE is made anew") || r.Report.BootDisk.Data != first.Report.BootDisk.Data {
		t.Errorf("before %+v, after %+v\n%s", first.Report.BootDisk, r.Report.BootDisk, w.said.String())
	}
}

// TestDataStaysShut: without DATA the box serves with what needs none.
func TestDataStaysShut(t *testing.T) {
	w := vaulted(t, "simulator")
	w.boot()
	w.policy.Development, w.policy.RecoveryKey = false, ""
	w.spoil(w.data, 0, 32<<10)
	r := w.boot()
	w.want(r, verdict.Released, "clean")
	if r.Report.BootDisk.Data != "" || len(r.Secret) != 32 || !strings.Contains(w.said.String(), "DATA stays shut") {
		t.Errorf("%+v\n%s", r.Report.BootDisk, w.said.String())
	}
}

// TestIsolatedVault: whatever isolates a box keeps its data sealed.
func TestIsolatedVault(t *testing.T) {
	w := vaulted(t, "simulator")
	w.boot()
	w.increment()
	r := w.boot()
	w.want(r, verdict.Isolated, "counter-moved")
	w.shut(r)
}

// TestPanicShutsVault: what was opened for a box in order is taken away from one that init failed on.
func TestPanicShutsVault(t *testing.T) {
	w := vaulted(t, "simulator")
	w.want(w.boot(), verdict.Released, "provisioned")
	w.iron.stuck = true
	r := w.boot()
	if r.Report.Box.Code != "init-failed" {
		t.Fatalf("%+v", r.Report.Box)
	}
	w.shut(r)
	w.capped()
}

// TestCapFailsShutsVault: a box whose PCR 11 cannot be capped keeps nothing open.
func TestCapFailsShutsVault(t *testing.T) {
	w := vaulted(t, "simulator")
	w.want(w.boot(), verdict.Released, "provisioned")
	w.wire = &answering{w.tpm, tpm2.TPMCCPCREvent, tpm2.TPMRCLocality}
	r := w.boot()
	w.want(r, verdict.Isolated, "cap-failed")
	w.shut(r)
}

// live applies some configurations, each closed by a boot.
func (w *world) live(attempts int) {
	w.t.Helper()
	for n := range attempts {
		w.apply(fmt.Sprintf("host: n%d\n", n))
		w.want(w.boot(), verdict.Released, "closing")
	}
}

// spoil overwrites a part of a file.
func (w *world) spoil(path string, at int64, n int) {
	w.t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		w.t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(bytes.Repeat([]byte{0xa5}, n), at); err != nil {
		w.t.Fatal(err)
	}
}

// TestVaultMoves is an RMA: the disk of a box that has counted some attempts, with the TPM of another.
func TestVaultMoves(t *testing.T) {
	w := vaulted(t, "swtpm")
	w.policy.Development, w.policy.RecoveryKey = false, ""
	w.types("provision")
	first := w.boot()
	w.want(first, verdict.Released, "provisioned")
	w.holds(first)
	_, key, shown := strings.Cut(w.said.String(), "RECOVERY KEY, shown once, write it down: ")
	if key, _, _ = strings.Cut(key, "\n"); !shown {
		t.Fatalf("no recovery key in\n%s", w.said.String())
	}
	w.console = nil
	w.live(4)
	w.tpm = tpmtest.New(t, "swtpm")
	r := w.boot()
	w.want(r, verdict.Isolated, "tpm-cleared")
	w.shut(r)

	w.types("accept", "NOT-THE-KEY", "accept", strings.ToLower(key))
	r = w.boot()
	w.shows("not the recovery key")
	w.want(r, verdict.Released, "accepted")
	w.holds(r)
	if !bytes.Equal(r.Secret, first.Secret) || r.Report.BootDisk.Data != first.Report.BootDisk.Data {
		t.Error("the new box opened something else")
	}
	w.console = nil
	r = w.boot()
	w.want(r, verdict.Released, "clean")
	w.holds(r)
	w.live(3) // over the numbers of the old life
	w.want(w.boot(), verdict.Released, "clean")
}

// TestVaultAccepted: a STATE that is lost is made anew when its owner says so, and DATA stays what it is.
func TestVaultAccepted(t *testing.T) {
	w := vaulted(t, "simulator")
	first := w.boot()
	key := w.policy.RecoveryKey
	w.policy.Development, w.policy.RecoveryKey = false, ""
	w.spoil(w.state, 0, 32<<10)
	w.want(w.boot(), verdict.Isolated, "vault-shut")

	w.asked = "the next command of the verdict"
	w.types("status", "accept", key)
	r := w.boot()
	w.shows("vault-shut", "bind them to this box again")
	w.want(r, verdict.Released, "accepted")
	w.holds(r)
	if d := r.Report.BootDisk; d.State == first.Report.BootDisk.State || d.Data != first.Report.BootDisk.Data {
		t.Errorf("before %+v, after %+v", first.Report.BootDisk, d)
	}
	w.asked, w.console = "", nil
	w.want(w.boot(), verdict.Released, "clean")
}

// TestVaultProvisionCut: power fails while the TPM works at provisioning; the next boot starts again.
func TestVaultProvisionCut(t *testing.T) {
	whole := 1 << 10
	t.Run("whole", func(t *testing.T) { whole = vaulted(t, "simulator").boot().Report.TPM.Commands })
	for cut := 8; cut < whole; cut += 3 {
		t.Run(fmt.Sprint(cut), func(t *testing.T) {
			w := vaulted(t, "simulator")
			w.wire = &cutter{TPM: w.tpm, left: cut}
			w.boot()
			w.wire = nil
			r := w.boot()
			if r.Report.Box.Decision != verdict.Released {
				t.Fatalf("after a cut at command %d: %+v", cut, r.Report.Box)
			}
			w.holds(r)
			r = w.boot()
			w.want(r, verdict.Released, "clean")
			w.holds(r)
		})
	}
}

// TestVaultOtherK: what stands in the place of K goes when the box is accepted, whatever it is.
func TestVaultOtherK(t *testing.T) {
	w := vaulted(t, "simulator")
	first := w.boot()
	w.want(first, verdict.Released, "provisioned")
	w.forgetIndex(counter.HandleK)
	w.define(counter.HandleK)
	w.increment()
	w.types("accept", "DEV-KEY")
	r := w.boot()
	w.want(r, verdict.Released, "accepted")
	w.holds(r)
	c := counter.Open(w.tpm)
	if err := errors.Join(c.RaiseV(counter.AuthK(r.Secret), 0), c.Close()); err != nil {
		t.Errorf("core cannot raise V: %v", err)
	}
}
