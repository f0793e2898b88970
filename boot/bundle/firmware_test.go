package bundle

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"strings"
	"testing"
)

// device is a package of device firmware by the fixture's key.
func (f *fixture) device(t testing.TB, image []byte) []byte {
	t.Helper()
	text, err := DeviceManifest{
		Models: []string{"simulated device", "1af4:1042"}, Versions: map[string]string{"": "1.1"},
		Image: File{int64(len(image)), sha256.Sum256(image)},
	}.Encode()
	if err != nil {
		t.Fatal(err)
	}
	sig, err := Sign(text, f.key)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := WriteDevice(&out, text, sig, bytes.NewReader(image)); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// unpack reads a package to its end.
func unpack(b []byte, keys Keys) (image []byte, at int64, err error) {
	r, err := OpenDevice(bytes.NewReader(b), keys)
	if err != nil {
		return nil, 0, err
	}
	in, at, err := r.Image()
	if err != nil {
		return nil, 0, err
	}
	image, err = io.ReadAll(in)
	return image, at, err
}

func TestDeviceFirmware(t *testing.T) {
	f := newFixture(t)
	image := bytes.Repeat([]byte("firmware"), 5000)
	packed := f.device(t, image)
	got, at, err := unpack(packed, f.keys(t))
	if err != nil || !bytes.Equal(got, image) {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
	if !bytes.Equal(packed[at:at+int64(len(image))], image) {
		t.Errorf("the firmware does not start at %d", at)
	}
}

func TestBadDeviceFirmware(t *testing.T) {
	f := newFixture(t)
	good := f.device(t, bytes.Repeat([]byte("firmware"), 500))
	altered := func(old, new string) []byte { return bytes.Replace(good, []byte(old), []byte(new), 1) }
	stranger, err := ParseKeys([]string{newFixtureKey(t)})
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		in   []byte
		keys Keys
		want error
	}{
		"other key":        {good, stranger, ErrSigner},
		"no key":           {good, nil, ErrSigner},
		"altered manifest": {altered(`"1.1"`, `"9.9"`), f.keys(t), ErrSigner},
		"altered firmware": {altered("firmwarefirmware", "firmwareFirmware"), f.keys(t), ErrDamaged},
		"truncated":        {good[:len(good)-1500], f.keys(t), ErrDamaged},
		"longer":           {append(bytes.Clone(good), 0), f.keys(t), ErrDamaged},
		"empty":            {nil, f.keys(t), ErrDamaged},
		"a bundle":         {f.pack(t), f.keys(t), ErrDamaged},
	} {
		if _, _, err := unpack(tt.in, tt.keys); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", name, err, tt.want)
		}
	}
	// Nor is a device firmware a bundle, though the same key signed it.
	if _, err := Open(bytes.NewReader(good), f.keys(t)); !errors.Is(err, ErrDamaged) {
		t.Errorf("opened as a bundle: %v, want ErrDamaged", err)
	}
}

func TestDeviceVersion(t *testing.T) {
	for want, versions := range map[string]map[string]string{
		"1.1":                     {"": "1.1"},
		"fw.mgmt 10.2":            {"fw.mgmt": "10.2"},
		"fw.mgmt 10.2, fw.undi 1": {"fw.undi": "1", "fw.mgmt": "10.2"},
	} {
		if got := (DeviceManifest{Versions: versions}).Version(); got != want {
			t.Errorf("%v is %q, want %q", versions, got, want)
		}
	}
}

func FuzzDeviceManifest(f *testing.F) {
	f.Add([]byte(`{"format":1,"product":"ratchet-device-firmware","models":["x"],"versions":{"":"1"},"image":{"length":1,"sha256":"` + strings.Repeat("00", 32) + `"}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := ParseDeviceManifest(b)
		if err != nil {
			if !errors.Is(err, ErrDamaged) {
				t.Errorf("%v is not ErrDamaged", err)
			}
			return
		}
		again, err := m.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ParseDeviceManifest(again); err != nil {
			t.Errorf("what was read cannot be written and read: %v", err)
		}
	})
}
