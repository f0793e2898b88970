package vault

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ratchetos/ratchet/boot/counter"
	"github.com/ratchetos/ratchet/boot/luks"
)

var recovery = []byte("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567")

// chip is a TPM that keeps a secret, or not.
type chip struct {
	secret, core []byte
	power        *power
}

var _ Chip = (*chip)(nil)

func (c *chip) Recall() ([]byte, error) {
	if c.secret == nil {
		return nil, counter.ErrNoSecret
	}
	return c.secret, nil
}

func (c *chip) Keep(secret, core []byte) error {
	if !c.power.use() {
		c.secret = nil // between its removal and its definition
		return errPower
	}
	c.secret, c.core = bytes.Clone(secret), bytes.Clone(core)
	return nil
}

// power fails once left actions were done; negative is never.
type power struct{ left int }

var errPower = errors.New("power failed")

func (p *power) use() bool {
	if p.left < 0 {
		return true
	}
	p.left--
	ok := p.left >= 0
	p.left = max(p.left, 0)
	return ok
}

// part is a partition in memory.
type part struct {
	data  []byte
	power *power
}

func (p *part) Sync() error { return nil }

func (p *part) ReadAt(b []byte, at int64) (int, error) { return bytes.NewReader(p.data).ReadAt(b, at) }

func (p *part) WriteAt(b []byte, at int64) (int, error) {
	if at+int64(len(b)) > int64(len(p.data)) {
		return 0, io.ErrShortWrite
	}
	if !p.power.use() {
		return copy(p.data[at:], b[:len(b)/2]), errPower
	}
	return copy(p.data[at:], b), nil
}

// box is a TPM and a disk.
type box struct {
	chip        *chip
	state, data *part
	power       *power
}

func newBox() *box {
	p := &power{left: -1}
	return &box{chip: &chip{power: p}, state: &part{make([]byte, 3<<20), p}, data: &part{make([]byte, 4<<20), p}, power: p}
}

func (b *box) clone() *box {
	c := newBox()
	*c.chip = chip{bytes.Clone(b.chip.secret), bytes.Clone(b.chip.core), c.power}
	c.state.data, c.data.data = bytes.Clone(b.state.data), bytes.Clone(b.data.data)
	return c
}

func (b *box) volumes() (Volume, *Volume) {
	return Volume{"STATE", b.state, int64(len(b.state.data))}, &Volume{"DATA", b.data, int64(len(b.data.data))}
}

func (b *box) open(t *testing.T) Opened {
	t.Helper()
	state, data := b.volumes()
	o, err := Open(b.chip, state, data)
	if err := errors.Join(err, o.DataErr); err != nil {
		t.Fatal(err)
	}
	return o
}

func (b *box) bind(t *testing.T, key []byte, fresh bool) (Opened, error) {
	t.Helper()
	state, data := b.volumes()
	return Bind(b.chip, key, fresh, state, data)
}

func provisioned(t *testing.T) (*box, Opened) {
	t.Helper()
	b := newBox()
	o, err := b.bind(t, recovery, true)
	if err := errors.Join(err, o.DataErr); err != nil {
		t.Fatal(err)
	}
	state, _ := b.volumes()
	if err := state.Finish(); err != nil {
		t.Fatal(err)
	}
	o.State.Ready = true
	return b, o
}

func same(a, b Opened) bool {
	return bytes.Equal(a.CoreKey, b.CoreKey) && fmt.Sprint(a.State, a.Data) == fmt.Sprint(b.State, b.Data)
}

func TestOpenEveryBoot(t *testing.T) {
	b, made := provisioned(t)
	if got := b.open(t); !same(got, made) {
		t.Errorf("opened %+v, made %+v", got, made)
	}
	if m := made.State; m.Offset != 2<<20 || m.Size != 1<<20 || m.SectorSize != 4096 || len(m.Key) != 64 || m.Cipher != "aes-xts-plain64" || bytes.Equal(m.Key, made.Data.Key) {
		t.Errorf("mapping of STATE: %+v", m)
	}
	if len(made.CoreKey) != 32 || !bytes.Equal(b.chip.core, made.CoreKey) {
		t.Error("the TPM authorises another core key than core gets")
	}
	if bytes.Contains(b.state.data, b.chip.secret) || bytes.Contains(b.state.data, made.State.Key) {
		t.Error("a secret lies in the header in clear")
	}
}

// TestLosses: what a box does without one of its parts.
func TestLosses(t *testing.T) {
	for _, c := range []struct {
		name   string
		lose   func(*box)
		err    error // of Open
		noData bool
		after  string // of Bind with the recovery key: "same", "new state", "new data"
	}{
		{"nothing", func(*box) {}, nil, false, "same"},
		{"TPM", func(b *box) { b.chip.secret = nil }, counter.ErrNoSecret, false, "same"},
		{"another TPM's secret", func(b *box) { b.chip.secret = make([]byte, 32) }, luks.ErrPassphrase, false, "same"},
		{"one copy of a header", func(b *box) { b.state.data[100] ^= 1 }, nil, false, "same"},
		{"header of STATE", func(b *box) { clear(b.state.data[:32<<10]) }, luks.ErrNoHeader, false, "new state"},
		{"header of DATA", func(b *box) { clear(b.data.data[:32<<10]) }, nil, true, "new data"},
		{"first copy of DATA, and the second is not supported", func(b *box) {
			b.data.data[100] ^= 1
			reencrypting(b.data.data[16<<10 : 32<<10])
		}, nil, true, "error"},
		{"keyslots of DATA", func(b *box) { clear(b.data.data[32<<10 : 2<<20]) }, nil, true, "error"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b, made := provisioned(t)
			c.lose(b)
			state, data := b.volumes()
			o, err := Open(b.chip, state, data)
			if !errors.Is(err, c.err) || c.err == nil && err != nil || (o.DataErr != nil) != c.noData {
				t.Errorf("open: %v, DATA: %v", err, o.DataErr)
			}
			if err != nil && (o.CoreKey != nil || o.Data.Key != nil) {
				t.Error("STATE is shut, but something was given out")
			}
			o, err = b.bind(t, recovery, false)
			var after string
			switch {
			case err != nil:
				after = "error"
				if !errors.Is(err, ErrOtherKey) && !strings.Contains(err.Error(), "not supported") {
					t.Error(err)
				}
			case same(o, made):
				after = "same"
			case bytes.Equal(o.Data.Key, made.Data.Key) && !o.State.Ready:
				after = "new state"
			case bytes.Equal(o.State.Key, made.State.Key) && o.State.Ready:
				after = "new data"
			}
			if after != c.after {
				t.Errorf("bound: %q, want %q", after, c.after)
			}
		})
	}
}

// reencrypting makes a copy of a header one of a volume that cryptsetup is reencrypting.
func reencrypting(header []byte) {
	text, _, _ := bytes.Cut(header[4096:], []byte{0})
	changed := bytes.Replace(text, []byte(`"config":{`), []byte(`"config":{"requirements":{"mandatory":["online-reencrypt-v2"]},`), 1)
	copy(header[4096:], changed)
	clear(header[448:512]) // the checksum, and zero while it is computed
	sum := sha256.Sum256(header)
	copy(header[448:], sum[:])
}

// TestMoveToAnotherBox is an RMA: the disk of a dead box with the TPM of a new one.
func TestMoveToAnotherBox(t *testing.T) {
	b, made := provisioned(t)
	b.chip = &chip{power: b.power}
	if _, err := b.bind(t, []byte("SOMEBODY ELSE'S KEY"), false); !errors.Is(err, ErrOtherKey) {
		t.Errorf("another recovery key: %v", err)
	}
	if _, err := b.bind(t, recovery, false); err != nil {
		t.Fatal(err)
	}
	if got := b.open(t); !same(got, made) {
		t.Error("the new box opens other volumes")
	}
}

// TestDataOfAnotherBox: DATA beside a STATE that was made anew keeps its content.
func TestDataOfAnotherBox(t *testing.T) {
	old, made := provisioned(t)
	b, _ := provisioned(t)
	b.data = &part{old.data.data, b.power}
	o, err := b.bind(t, recovery, false)
	if err != nil || o.DataErr != nil || !bytes.Equal(o.Data.Key, made.Data.Key) {
		t.Fatalf("%v %v", err, o.DataErr)
	}
	if got := b.open(t); !bytes.Equal(got.Data.Key, made.Data.Key) {
		t.Error("DATA does not open by itself afterwards")
	}
}

// TestExchangedVolume: a STATE that somebody made with the same recovery scheme but without S stays shut.
func TestExchangedVolume(t *testing.T) {
	b, _ := provisioned(t)
	evil, _ := provisioned(t)
	b.state.data = evil.state.data
	state, data := b.volumes()
	if _, err := Open(b.chip, state, data); !errors.Is(err, luks.ErrPassphrase) {
		t.Errorf("a foreign STATE: %v", err)
	}
}

// TestPowerCuts: Bind is interrupted at every step and repeated. A box that had volumes keeps them; a new
// one ends with good ones, also when the repetition has another recovery key, as a release makes one.
func TestPowerCuts(t *testing.T) {
	moved, made := provisioned(t)
	moved.chip.secret = nil
	for _, c := range []struct {
		name  string
		start *box
		fresh bool
		again []byte
	}{
		{"new box", newBox(), true, recovery},
		{"new box, new key", newBox(), true, []byte("ANOTHER")},
		{"moved disk", moved, false, recovery},
	} {
		t.Run(c.name, func(t *testing.T) {
			for cut := 0; ; cut++ {
				b := c.start.clone()
				b.power.left = cut
				_, err := b.bind(t, recovery, c.fresh)
				b.power.left = -1
				if err == nil {
					if cut < 1 {
						t.Fatal("nothing was interrupted")
					}
					return
				}
				if !errors.Is(err, errPower) {
					t.Fatalf("cut %d: %v", cut, err)
				}
				if _, err := b.bind(t, c.again, c.fresh); err != nil {
					t.Fatalf("cut %d, again: %v", cut, err)
				}
				if o := b.open(t); !c.fresh && !same(o, made) {
					t.Errorf("cut %d: other volumes than before", cut)
				}
			}
		})
	}
}

func TestDestroy(t *testing.T) {
	b, made := provisioned(t)
	_, data := b.volumes()
	if err := data.Destroy(); err != nil {
		t.Fatal(err)
	}
	if slices.Max(b.data.data[:2<<20]) != 0 {
		t.Error("something of the header is left")
	}
	if o, err := b.bind(t, recovery, true); err != nil || bytes.Equal(o.Data.Key, made.Data.Key) {
		t.Errorf("after it: %v", err)
	}
}

// TestDebianOpensIt: any machine with cryptsetup opens DATA with the recovery key.
func TestDebianOpensIt(t *testing.T) {
	b, _ := provisioned(t)
	path := filepath.Join(t.TempDir(), "DATA")
	if err := os.WriteFile(path, b.data.data, 0o600); err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]bool{string(recovery): true, "WRONG": false} {
		cmd := exec.CommandContext(t.Context(), "cryptsetup", "--disable-locks", "open", "--test-passphrase", "--type", "luks2", path)
		if cmd.Err != nil { // a user's PATH may lack it
			cmd = exec.CommandContext(t.Context(), "/usr/sbin/cryptsetup", cmd.Args[1:]...)
		}
		cmd.Stdin = strings.NewReader(key + "\n") // as typed
		if out, err := cmd.CombinedOutput(); (err == nil) != want {
			t.Errorf("%s: %v %s", key, err, out)
		}
	}
}

func TestNoDataPartition(t *testing.T) {
	b := newBox()
	state, _ := b.volumes()
	o, err := Bind(b.chip, recovery, true, state, nil)
	if err != nil || !errors.Is(o.DataErr, ErrNoData) {
		t.Errorf("%v, DATA: %v", err, o.DataErr)
	}
}
