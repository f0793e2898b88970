package systems

import (
	"bytes"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ratchetos/ratchet/image/builder"
	"github.com/ratchetos/ratchet/plugins/gateway/api"
)

// sealedConfig has one volume, encrypted in its store, behind TLS with client certificates.
const sealedConfig = `version: 1
hostname: workstation
tpm: none
api: {listen: none}
time: {ntp: []}
plugins:
  gateway:
    volumes:
      - name: demo
        size: 64MiB
        disk: file:%[1]s/disk
        store: {driver: dir, path: %[1]s/store}
        encryption: {key_file: %[1]s/volume.key}
    nbd:
      listen: ["unix:%[1]s/nbd.sock", "tcp:%[2]s"]
      tls: {certificate: "file:%[1]s/server-cert.pem", key: "file:%[1]s/server-key.pem", client_ca: "file:%[1]s/tls/ca-cert.pem"}
`

// sealedVolume: clients with a certificate write and read through TLS and others do not get in; the store holds
// ciphertext; a bit that is flipped on the disk is found and repaired by a scrub; without the key the volume stays shut.
func sealedVolume(t *testing.T) {
	_, image := workspace(t, "sealed-volume", "full")
	dir := workstationDir(t)
	certificates(t, dir)
	key := filepath.Join(dir, "volume.key")
	must(t, os.WriteFile(key, []byte(strings.Repeat("0123456789abcdef", 4)+"\n"), 0o600))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	address := l.Addr().String()
	must(t, l.Close())
	w := startWorkstationIn(t, filepath.Join(image, builder.ApplianceFile), dir, fmt.Sprintf(sealedConfig, dir, address))

	data := make([]byte, 8<<20)
	_, _ = rand.NewChaCha8([32]byte{11}).Read(data) // never fails
	must(t, os.WriteFile(filepath.Join(dir, "disk.img"), data, 0o600))
	in, out := w.copyCommands(t)
	shell(t, dir, in)
	shell(t, dir, out)
	same := func() {
		t.Helper()
		got, err := os.ReadFile(filepath.Join(dir, "disk.img"))
		if err != nil || !bytes.Equal(got[:len(data)], data) {
			t.Fatalf("what was copied in does not come out: %v", err)
		}
	}
	same()
	for who, uri := range map[string]string{
		"in the clear":                     "nbd://" + address + "/demo",
		"no certificate":                   "nbds://" + address + "/demo?tls-certificates=" + filepath.Join(dir, "without"),
		"certificate of another authority": "nbds://" + address + "/demo?tls-certificates=" + filepath.Join(dir, "foreign"),
	} {
		if out, err := command(within(t, stepLimit), nil, "nbdinfo", uri).CombinedOutput(); err == nil {
			t.Errorf("%s: let in:\n%s", who, out)
		}
	}
	w.ctl("volume", "flush", "demo")
	objects := 0
	must(t, filepath.WalkDir(filepath.Join(dir, "store"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		objects++
		text, err := os.ReadFile(path)
		for at := 0; at < len(data); at += 1 << 20 {
			if bytes.Contains(text, data[at+512:at+544]) {
				t.Errorf("%s holds what was written in the clear", path)
			}
		}
		return err
	}))
	seen(t, "TLS from the configuration: nbdcopy with a certificate in and out; without, with another's, in the clear refused; %d encrypted objects hold none of it", objects)

	flipBit(t, filepath.Join(dir, "disk"), data[3<<20:3<<20+4096])
	said := w.ctl("volume", "scrub", "demo", "--rate", "1GiB", "--wait", "-o", "json")
	if s := decode[api.Scrub](t, []byte(said)); s.Repaired != 1 || s.Lost != 0 {
		t.Errorf("scrub: %s", said)
	}
	if status := w.ctl("status"); !strings.Contains(status, "1 damaged block") {
		t.Errorf("status says nothing of the disk:\n%s", status)
	}
	shell(t, dir, out)
	same()
	seen(t, "one bit flipped on the disk: volume scrub finds and repairs it, status names the disk")

	right, err := os.ReadFile(key)
	must(t, err)
	must(t, os.WriteFile(key, []byte(strings.Repeat("fedcba9876543210", 4)+"\n"), 0o600))
	w.ctl("plugin", "restart", "gateway")
	v := w.volume(t, "demo", "failed", "wrong encryption key")
	must(t, os.WriteFile(key, right, 0o600))
	w.ctl("plugin", "restart", "gateway")
	w.volume(t, "demo", "attached", "")
	shell(t, dir, out)
	same()
	seen(t, "wrong key file: %q; with the right one it serves again", v.Message)
}

// copyCommands are those that attach-info shows to a client with TLS.
func (w *workstation) copyCommands(t *testing.T) (in, out string) {
	t.Helper()
	for line := range strings.Lines(w.ctl("volume", "attach-info", "demo")) {
		switch line = strings.TrimSpace(line); {
		case !strings.Contains(line, "nbds://"):
		case strings.HasPrefix(line, "nbdcopy --flush disk.img "):
			in = line
		case strings.HasPrefix(line, "nbdcopy "):
			out = line
		}
	}
	if in == "" || out == "" {
		t.Fatal("attach-info shows no way to copy with TLS")
	}
	return in, out
}

func shell(t *testing.T, dir, line string) {
	t.Helper()
	cmd := command(within(t, stepLimit), nil, "sh", "-c", line)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", line, err, out)
	}
}

// certificates makes a server's certificate, and folders as libnbd wants them: tls, without a client's certificate, and
// with that of an authority that the server does not know.
func certificates(t *testing.T, dir string) {
	t.Helper()
	for _, sub := range []string{"tls", "foreign", "without"} {
		must(t, os.Mkdir(filepath.Join(dir, sub), 0o755))
	}
	make := func(name, issuer string, more ...string) {
		t.Helper()
		args := []string{"req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", "/CN=" + filepath.Base(name), "-keyout", filepath.Join(dir, name+"-key.pem"), "-out", filepath.Join(dir, name+"-cert.pem")}
		if issuer != "" {
			args = append(args, "-CA", filepath.Join(dir, issuer+"-cert.pem"), "-CAkey", filepath.Join(dir, issuer+"-key.pem"), "-addext", "basicConstraints=critical,CA:false")
		}
		tool(t, nil, "openssl", append(args, more...)...)
	}
	make("tls/ca", "")
	make("server", "tls/ca", "-addext", "subjectAltName=IP:127.0.0.1")
	make("tls/client", "tls/ca")
	make("foreign/ca", "")
	make("foreign/client", "foreign/ca")
	ca, err := os.ReadFile(filepath.Join(dir, "tls", "ca-cert.pem"))
	must(t, err)
	for _, sub := range []string{"foreign", "without"} { // both trust the server
		must(t, os.WriteFile(filepath.Join(dir, sub, "ca-cert.pem"), ca, 0o600))
	}
}

// flipBit turns a bit around where a file holds p.
func flipBit(t *testing.T, path string, p []byte) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	must(t, err)
	defer f.Close()
	all, err := os.ReadFile(path)
	must(t, err)
	at := bytes.Index(all, p)
	if at < 0 {
		t.Fatalf("%s does not hold what was written", path)
	}
	_, err = f.WriteAt([]byte{all[at+100] ^ 1}, int64(at+100))
	must(t, err)
	must(t, f.Sync())
}
