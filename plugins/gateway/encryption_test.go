package gateway

import (
	"bytes"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ratchetos/ratchet/plugins/gateway/api"
)

// sealed is a box whose volume has the key in a file.
func sealed(t *testing.T, store, keyFile string) *box {
	t.Helper()
	b := newBox(t, store)
	b.section = section(t, map[string]any{"volumes": []any{map[string]any{
		"name": boxName, "ring": 8 << 20, "size": boxVolume, "disk": "file:" + b.disk,
		"store": map[string]any{"driver": "dir", "path": store}, "upload": map[string]any{"max_age": "20ms"},
		"encryption": map[string]any{"key_file": keyFile},
	}}})
	b.secrets = map[string]string{wantKey(0): keyFile}
	return b
}

func keyFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// marker is what is looked for in the store: it does not compress, so that it would be there as it is.
func marker() []byte {
	p := make([]byte, 64<<10)
	_, _ = rand.NewChaCha8([32]byte{7}).Read(p) // never fails
	return p
}

// holds reports whether any object of a store has a part of p in it, and how many objects there are.
func holds(t *testing.T, store string, p []byte) (found bool, objects int) {
	t.Helper()
	err := filepath.WalkDir(store, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		objects++
		found = found || bytes.Contains(text, p[len(p)/2:len(p)/2+64])
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found, objects
}

// TestEncryption: what goes to the store is ciphertext, another box with the key reads it, and nobody without.
func TestEncryption(t *testing.T) {
	plain := newBox(t, t.TempDir())
	right := keyFile(t, strings.Repeat("5a", keySize)+"\n")
	b := sealed(t, t.TempDir(), right)
	want := marker()
	for _, box := range []*box{plain, b} {
		f := box.start()
		if err := box.mustDial().Write(1<<20, want, true); err != nil {
			t.Fatal(err)
		}
		if _, err := invoke[api.Volume](t, f, api.MethodFlush, api.FlushRequest{Name: boxName}); err != nil {
			t.Fatal(err)
		}
		if err := f.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if found, _ := holds(t, plain.store, want); !found {
		t.Fatal("the data is not found in a store without encryption: the test sees nothing")
	}
	if found, objects := holds(t, b.store, want); found || objects < 3 {
		t.Errorf("in %d objects of the encrypted store the data is found: %t", objects, found)
	}

	for name, tc := range map[string]struct{ key, says string }{
		"other key":  {strings.Repeat("a5", keySize), "wrong encryption key"},
		"no key":     {strings.Repeat("a", keySize), "64 hexadecimal digits"},
		"empty file": {"", "64 hexadecimal digits"},
	} {
		t.Run(name, func(t *testing.T) {
			path := keyFile(t, tc.key)
			fresh := sealed(t, b.store, path)
			same := sealed(t, b.store, path)
			same.disk = b.disk
			for where, box := range map[string]*box{"a blank disk": fresh, "its own disk": same} {
				f := box.start()
				v := until(t, f, "failed")
				if !strings.Contains(v.Message, tc.says) || !strings.Contains(v.Message, "give the volume the key") {
					t.Errorf("on %s: %s", where, v.Message)
				}
				if tc.key != "" && strings.Contains(v.Message, tc.key) {
					t.Errorf("on %s the key is shown: %s", where, v.Message)
				}
				if err := f.Stop(t.Context()); err != nil {
					t.Error(err)
				}
			}
		})
	}

	for _, box := range []*box{b, sealed(t, b.store, right)} {
		f := box.start()
		if got, err := box.mustDial().Read(1<<20, uint32(len(want))); err != nil || !bytes.Equal(got, want) {
			t.Errorf("with the key: %v, same %t", err, bytes.Equal(got, want))
		}
		if err := f.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

// TestKeyOfOneVolume: a volume whose key cannot be had is no reason for its neighbours not to serve.
func TestKeyOfOneVolume(t *testing.T) {
	path := keyFile(t, "")
	b := tenants(t, t.TempDir(),
		map[string]any{"name": "locked", "size": boxVolume, "encryption": map[string]any{"key_file": path}},
		map[string]any{"name": "open", "size": boxVolume})
	b.secrets = map[string]string{wantKey(0): path}
	f := b.start()
	if err := b.export("open").Write(0, marker(), true); err != nil {
		t.Error(err)
	}
	v, err := invoke[api.Volume](t, f, api.MethodShow, api.VolumeRequest{Name: "locked"})
	if err != nil || v.State != "failed" || !v.Encrypted || !strings.Contains(v.Message, "no encryption key") {
		t.Errorf("%v, %+v", err, v)
	}
	if v, err = invoke[api.Volume](t, f, api.MethodShow, api.VolumeRequest{Name: "open"}); err != nil || v.Encrypted {
		t.Errorf("%v, %+v", err, v)
	}
}
