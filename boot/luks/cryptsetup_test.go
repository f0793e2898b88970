package luks

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// cryptsetup runs Debian's tool, which is the judge of what we write and read.
func cryptsetup(t *testing.T, stdin []byte, args ...string) ([]byte, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "cryptsetup", append([]string{"--batch-mode", "--disable-locks"}, args...)...)
	if cmd.Err != nil { // a user's PATH may lack it
		cmd = exec.CommandContext(t.Context(), "/usr/sbin/cryptsetup", cmd.Args[1:]...)
	}
	cmd.Stdin = bytes.NewReader(stdin)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Logf("cryptsetup %v: %v: %s", args, err, stderr.Bytes())
	}
	return out, err
}

func save(t *testing.T, d *disk) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "volume")
	if err := os.WriteFile(path, d.data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestCryptsetupOpensOurs(t *testing.T) {
	d, h, key := formatted(t)
	if err := h.Replace(d, key, []byte("after an exchange"), Token{Type: "ratchet-tpm2", Data: note{[]byte("x")}}); err != nil {
		t.Fatal(err)
	}
	// cryptsetup repairs the copy that a power cut left behind, also when that is the first one.
	for name, damage := range map[string]int{"whole": -1, "first copy": 100, "second copy": copySize + 100} {
		t.Run(name, func(t *testing.T) {
			d := d.clone()
			if damage >= 0 {
				d.data[damage] ^= 1
			}
			path := save(t, d)
			for _, args := range [][]string{{"isLuks", "--type", "luks2", path}, {"luksUUID", path}} {
				if _, err := cryptsetup(t, nil, args...); err != nil {
					t.Error(err)
				}
			}
			for pass, want := range map[string]bool{string(recovery): true, "after an exchange": true, string(passphrase): false} {
				_, err := cryptsetup(t, []byte(pass), "open", "--test-passphrase", "--key-file", "-", path)
				if (err == nil) != want {
					t.Errorf("passphrase %q opens: %t, want %t", pass, err == nil, want)
				}
			}
			dumped, err := cryptsetup(t, recovery, "luksDump", "--dump-volume-key", "--key-file", "-", "--volume-key-file", path+".key", path)
			if err != nil {
				t.Fatal(err, string(dumped))
			}
			if got, err := os.ReadFile(path + ".key"); err != nil || !bytes.Equal(got, key) {
				t.Errorf("cryptsetup finds another volume key (%v)", err)
			}
		})
	}
	out, err := cryptsetup(t, nil, "luksDump", "--dump-json-metadata", save(t, d))
	var m struct {
		Tokens map[string]struct{ Type string }
	}
	if err == nil {
		err = json.Unmarshal(out, &m)
	}
	if err != nil || m.Tokens["0"].Type != "ratchet-tpm2" {
		t.Errorf("token: %v %v", m, err)
	}
}

func TestWeOpenCryptsetups(t *testing.T) {
	path := filepath.Join(t.TempDir(), "volume")
	if err := os.WriteFile(path, make([]byte, 20<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := cryptsetup(t, []byte("theirs"), "luksFormat", "--type", "luks2", "--pbkdf", "pbkdf2", "--hash", "sha256",
		"--pbkdf-force-iterations", "1000", "--key-file", "-", path); err != nil {
		t.Fatal(err)
	}
	// An argon2id keyslot beside it, as an operator would add one.
	second := path + ".second"
	if err := os.WriteFile(second, []byte("added"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := cryptsetup(t, []byte("theirs"), "luksAddKey", "--pbkdf", "argon2id", "--pbkdf-force-iterations", "4",
		"--pbkdf-memory", "64", "--key-file", "-", path, second); err != nil {
		t.Fatal(err)
	}
	if _, err := cryptsetup(t, []byte("theirs"), "luksDump", "--dump-volume-key", "--key-file", "-", "--volume-key-file", path+".key", path); err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile(path + ".key")
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	h, err := Read(f)
	if err != nil {
		t.Fatal(err)
	}
	key, err := h.Unlock(f, []byte("theirs"))
	if err != nil || !bytes.Equal(key, want) {
		t.Errorf("volume key %x, want %x (%v)", key, want, err)
	}
	if h.Offset() != 16<<20 || h.Stale {
		t.Errorf("data at %d, stale %t", h.Offset(), h.Stale)
	}
	if err := h.Replace(f, key, passphrase, Token{Type: "ratchet-tpm2", Data: note{}}); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{"theirs", "added", string(passphrase)} {
		if _, err := cryptsetup(t, []byte(p), "open", "--test-passphrase", "--key-file", "-", path); err != nil {
			t.Errorf("%q does not open what we changed: %v", p, err)
		}
	}
}
