package luks

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
)

const testUUID = "6b1f3f2e-4c53-4c8e-9a54-0d2f6f6e5a1c"

var (
	passphrase = []byte("thirty-two bytes of a box secret")
	recovery   = []byte("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567")
)

// disk is a Device in memory. It counts writes and loses power before the one numbered cut.
type disk struct {
	data   []byte
	writes int
	cut    int
}

var (
	_        Device = (*disk)(nil)
	errPower        = errors.New("power failed")
)

func newDisk(size int) *disk { return &disk{data: make([]byte, size), cut: -1} }

func (d *disk) ReadAt(p []byte, at int64) (int, error) { return bytes.NewReader(d.data).ReadAt(p, at) }
func (d *disk) Sync() error                            { return nil }

// WriteAt writes half of what the power cut interrupts.
func (d *disk) WriteAt(p []byte, at int64) (int, error) {
	if d.cut >= 0 && d.writes >= d.cut {
		if d.writes == d.cut {
			copy(d.data[at:], p[:len(p)/2])
		}
		d.writes++
		return 0, errPower
	}
	d.writes++
	if at+int64(len(p)) > int64(len(d.data)) {
		return 0, io.ErrShortWrite
	}
	return copy(d.data[at:], p), nil
}

func (d *disk) clone() *disk { return &disk{data: bytes.Clone(d.data), cut: -1} }

type note struct {
	Blob []byte `json:"blob"`
}

func formatted(t testing.TB) (*disk, *Header, []byte) {
	t.Helper()
	d := newDisk(4 << 20)
	h, key, err := Format(d, Options{
		UUID: testUUID, Label: "STATE", Subsystem: "ratchet", Passphrase: passphrase, Recovery: recovery,
		Token: Token{Type: "ratchet-tpm2", Data: note{[]byte("one")}}, Rand: rand.NewChaCha8([32]byte{1}),
	})
	if err != nil {
		t.Fatal(err)
	}
	return d, h, key
}

// opens says which of the passphrases open the volume and what the token holds.
func opens(t *testing.T, d *disk, key []byte, passphrases ...string) string {
	t.Helper()
	h, err := Read(d)
	if err != nil {
		return err.Error()
	}
	var n note
	if _, err := h.Token("ratchet-tpm2", &n); err != nil {
		t.Error(err)
	}
	out := string(n.Blob)
	for _, p := range passphrases {
		got, err := h.Unlock(d, []byte(p))
		switch {
		case err == nil && !bytes.Equal(got, key):
			t.Errorf("passphrase %q gave another key", p)
		case err == nil:
			out += " " + p
		case !errors.Is(err, ErrPassphrase):
			t.Error(err)
		}
	}
	if h.Stale {
		out += " stale"
	}
	return out
}

func TestFormatAndChange(t *testing.T) {
	d, h, key := formatted(t)
	box, rec := string(passphrase), string(recovery)
	check := func(want string) {
		t.Helper()
		if got := opens(t, d, key, box, rec, "other box", "wrong"); got != want {
			t.Errorf("opens with %q, want %q", got, want)
		}
	}
	check("one " + box + " " + rec)
	if err := h.SetToken(d, Token{Type: "ratchet-tpm2", Data: note{[]byte("two")}}); err != nil {
		t.Fatal(err)
	}
	check("two " + box + " " + rec)
	old := h.meta
	if err := h.Replace(d, key, []byte("other box"), Token{Type: "ratchet-tpm2", Data: note{[]byte("three")}}); err != nil {
		t.Fatal(err)
	}
	check("three " + rec + " other box")
	// The old keyslot is gone from the disk too, whatever a header says.
	h.meta = old
	if _, err := h.Unlock(d, passphrase); !errors.Is(err, ErrPassphrase) {
		t.Errorf("the replaced keyslot is still there: %v", err)
	}
}

// TestReplaceManyTimes: areas and numbers are used again.
func TestReplaceManyTimes(t *testing.T) {
	d, h, key := formatted(t)
	for i := range 12 {
		p := fmt.Appendf(nil, "box %d", i)
		if err := h.Replace(d, key, p, Token{Type: "ratchet-tpm2", Data: note{p}}); err != nil {
			t.Fatal(err)
		}
		if got, want := opens(t, d, key, string(p), string(recovery)), fmt.Sprintf("box %d box %d %s", i, i, recovery); got != want {
			t.Fatalf("%q, want %q", got, want)
		}
	}
}

// TestPowerCut: after a cut at each write of a change the volume opens with the recovery passphrase and
// exactly one of the old and the new one, whose token fits.
func TestPowerCut(t *testing.T) {
	full, _, key := formatted(t)
	box, rec := string(passphrase), string(recovery)
	old, changed := "one "+box+" "+rec, "three "+rec+" other box"
	for cut := 0; ; cut++ {
		d := full.clone()
		d.cut = cut
		h, err := Read(d)
		if err != nil {
			t.Fatal(err)
		}
		err = h.Replace(d, key, []byte("other box"), Token{Type: "ratchet-tpm2", Data: note{[]byte("three")}})
		if err == nil {
			if cut != d.writes || cut < 4 {
				t.Errorf("%d writes at cut %d", d.writes, cut)
			}
			return
		}
		d.cut = -1
		got := opens(t, d, key, box, rec, "other box")
		if plain := strings.TrimSuffix(got, " stale"); plain != old && plain != changed {
			t.Errorf("cut at write %d: %q", cut, got)
		}
		if h, err = Read(d); err != nil {
			t.Fatal(err)
		}
		if err := h.Repair(d); err != nil {
			t.Fatal(err)
		}
		if after := opens(t, d, key, box, rec, "other box"); after != strings.TrimSuffix(got, " stale") {
			t.Errorf("cut at write %d: repaired to %q from %q", cut, after, got)
		}
	}
}

// TestFormatCut: a format that ended early leaves no volume, also not the one that was there.
func TestFormatCut(t *testing.T) {
	full, _, _ := formatted(t)
	for cut := 1; ; cut++ {
		d := full.clone()
		d.cut = cut
		_, _, err := Format(d, Options{UUID: testUUID, Passphrase: passphrase, Recovery: recovery})
		if err == nil {
			return
		}
		d.cut = -1
		if h, err := Read(d); err == nil {
			// Only the last write may be interrupted, once what the header names is whole.
			if _, err := h.Unlock(d, passphrase); err != nil {
				t.Errorf("cut at write %d: there is a header, but %v", cut, err)
			}
		}
	}
}

func TestEitherCopyWillDo(t *testing.T) {
	full, h, key := formatted(t)
	want := "one " + string(passphrase)
	for _, at := range []int{0, 8, 200, 5000, copySize, copySize + 300, copySize + 4100} {
		d := full.clone()
		d.data[at] ^= 1
		if got := opens(t, d, key, string(passphrase)); got != want+" stale" {
			t.Errorf("byte %d flipped: %q", at, got)
		}
	}
	d := full.clone()
	clear(d.data[:2*copySize])
	if _, err := Read(d); !errors.Is(err, ErrNoHeader) {
		t.Errorf("no header: %v", err)
	}
	if _, err := Read(newDisk(100)); err == nil {
		t.Error("a header was read from 100 bytes")
	}
	if h.Offset() != DataOffset || h.SectorSize() != 4096 {
		t.Errorf("data at %d in sectors of %d", h.Offset(), h.SectorSize())
	}
}

// badDisk cannot read what lies from an offset on.
type badDisk struct {
	*disk
	from int64
}

var errMedium = errors.New("medium error")

func (d badDisk) ReadAt(p []byte, at int64) (int, error) {
	if at+int64(len(p)) > d.from {
		return 0, errMedium
	}
	return d.disk.ReadAt(p, at)
}

// TestUnreadableIsNotEmpty: a volume is only without a header if both copies were looked at. One that is damaged in its
// first copy, and whose second cannot be read or asks for what is not supported, may hold data that its key still opens.
func TestUnreadableIsNotEmpty(t *testing.T) {
	d, _, _ := formatted(t)
	d.data[8] ^= 1
	if _, err := Read(badDisk{d, copySize}); !errors.Is(err, errMedium) || errors.Is(err, ErrNoHeader) {
		t.Errorf("the second copy cannot be read: %v", err)
	}
	d, _, _ = formatted(t)
	forge(t, d, func(s string) string {
		return strings.Replace(s, `"keyslots_size":"2064384"`, `"keyslots_size":"2064384","requirements":{"mandatory":["online-reencrypt-v2"]}`, 1)
	})
	d.data[8] ^= 1
	if _, err := Read(d); err == nil || !strings.Contains(err.Error(), "requires") || errors.Is(err, ErrNoHeader) {
		t.Errorf("the second copy is not supported: %v", err)
	}
	if _, err := Read(newDisk(100)); !errors.Is(err, ErrNoHeader) {
		t.Errorf("no room for a header: %v", err)
	}
}

// forge replaces the JSON of both copies, with good checksums: what an attacker can do.
func forge(t testing.TB, d *disk, change func(string) string) {
	t.Helper()
	for _, at := range []uint64{0, copySize} {
		b, err := readBlock(d, at)
		if err != nil {
			t.Fatal(err)
		}
		text, _, _ := bytes.Cut(b.json, []byte{0})
		b.json = []byte(change(string(text)))
		copy(d.data[at:], b.encode(at, make([]byte, 64)))
	}
}

// TestForgedHeaders: what would weaken the encryption or keep the box busy is refused.
func TestForgedHeaders(t *testing.T) {
	for _, c := range []struct{ old, new, want string }{
		{`"size":"dynamic","iv_tweak":"0","encryption":"aes-xts-plain64"`, `"size":"dynamic","iv_tweak":"0","encryption":"cipher_null-ecb"`, "only crypt with"},
		{`"type":"crypt"`, `"type":"linear"`, "only crypt with"},
		{`"sector_size":4096`, `"sector_size":4096,"integrity":{"type":"none"}`, "only crypt with"},
		{`"sector_size":4096`, `"sector_size":4096,"flags":["in-reencryption"]`, "only crypt with"},
		{`"iv_tweak":"0"`, `"iv_tweak":"8"`, "part of a volume"},
		{`"offset":"2097152"`, `"offset":"32768"`, "inside the header"},
		{`"offset":"2097152"`, `"offset":"-5"`, "read LUKS2 data segment"},
		{`"keyslots_size":"2064384"`, `"keyslots_size":"2064384","requirements":{"mandatory":["online-reencrypt-v2"]}`, "requires"},
		{`"keyslots_size":"2064384"`, `"keyslots_size":"99999999744"`, "do not fit"},
		{`"iterations":1000`, `"iterations":2000000000`, "2000000000 iterations"},
		{`"offset":"32768","size":"258048","encryption":"aes-xts-plain64"`, `"offset":"32768","size":"258048","encryption":"cipher_null-ecb"`, "no keyslot opens"},
		{`"offset":"32768"`, `"offset":"1099511627775"`, "outside the header"},
		{`"offset":"32768"`, `"offset":"0"`, "outside the header"},
		{`"digest":"`, `"digest":"AA`, "read LUKS2 digest"},
		{`"stripes":4000`, `"stripes":2`, "no keyslot opens"},
		{`{"keyslots"`, `{"keyslots`, "read LUKS2 metadata"},
	} {
		d, _, _ := formatted(t)
		forge(t, d, func(s string) string {
			if !strings.Contains(s, c.old) {
				t.Fatalf("%s is not in %s", c.old, s)
			}
			return strings.Replace(s, c.old, c.new, 1)
		})
		h, err := Read(d)
		if err == nil {
			_, err = h.Unlock(d, passphrase)
		}
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.new, err, c.want)
		}
	}
}

// TestOthersObjectsAreKept: keyslots and tokens that an operator added survive our changes.
func TestOthersObjectsAreKept(t *testing.T) {
	d, _, key := formatted(t)
	const slot, token = `{"type":"luks2","kdf":{"type":"argon2id","memory":1048576},"area":{"type":"raw","offset":"548864","size":"258048","encryption":"aes-xts-plain64","key_size":64},"x":1.50}`, `{"type":"systemd-fido2","keyslots":["7"]}`
	forge(t, d, func(s string) string {
		s = strings.Replace(s, `{"keyslots":{`, `{"keyslots":{"7":`+slot+`,`, 1)
		return strings.Replace(s, `"tokens":{`, `"tokens":{"5":`+token+`,`, 1)
	})
	h, err := Read(d)
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Replace(d, key, []byte("new"), Token{Type: "ratchet-tpm2", Data: note{}}); err != nil {
		t.Fatal(err)
	}
	if h, err = Read(d); err != nil {
		t.Fatal(err)
	}
	if got := string(h.meta.Keyslots["7"]); got != slot {
		t.Errorf("keyslot of another kind: %s", got)
	}
	if got := string(h.meta.Tokens["5"]); got != token {
		t.Errorf("token of another kind: %s", got)
	}
	for _, id := range []string{"0", "1", "2", "3"} {
		if k, err := h.meta.slot(id, h.size); err == nil && k.Area.Offset == 548864 {
			t.Errorf("keyslot %s lies on the other one", id)
		}
	}
}

// TestSplit holds the splitter to the vector that the format's author gives by construction: one stripe
// less than all tells nothing, all give the key.
func TestSplit(t *testing.T) {
	key := []byte("sixty-four bytes, which are two digests of SHA-256 and no more!!")
	out := make([]byte, len(key)*3)
	if err := split(out, key, rand.NewChaCha8([32]byte{7})); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(merge(out, len(key)), key) {
		t.Error("merge is not the inverse of split")
	}
	out[0] ^= 1
	if got := merge(out, len(key)); bytes.Equal(got[:8], key[:8]) {
		t.Error("one bit of the first stripe changed nothing")
	}
	b := []byte("0123456789abcdef0123456789abcdefXY")
	diffuse(b)
	number := binary.BigEndian.AppendUint32(nil, 1)
	sum := sha256.Sum256(append(number, "XY"...))
	if !bytes.Equal(b[32:], sum[:2]) {
		t.Error("the last, shorter part is not diffused by its own number")
	}
}

// FuzzRead feeds headers whose checksums are right, so that the JSON is what is tried.
func FuzzRead(f *testing.F) {
	full, h, _ := formatted(f)
	text, err := json.Marshal(h.meta)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text, false)
	f.Add([]byte(`{"segments":{"0":{}},"config":{"json_size":"12288","keyslots_size":"0"}}`), false)
	f.Add(full.data[:binarySize], true)
	f.Fuzz(func(_ *testing.T, data []byte, raw bool) {
		d := newDisk(3 << 20)
		copy(d.data, full.data[:2*copySize])
		if raw {
			copy(d.data, data)
		} else {
			b := block{size: copySize, sequence: 9, uuid: testUUID, json: data}
			copy(d.data, b.encode(0, nil))
		}
		h, err := Read(d)
		if err != nil {
			return
		}
		for id := range h.meta.Keyslots {
			if k, err := h.meta.slot(id, h.size); err == nil && k.KDF.Iterations > 2000 {
				return // allowed, but slow
			}
		}
		_, _ = h.Unlock(d, passphrase)
		_ = h.Replace(d, make([]byte, keySize), passphrase, Token{Type: "t", Data: note{}})
	})
}
