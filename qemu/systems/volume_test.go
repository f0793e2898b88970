package systems

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/ratchetos/ratchet/plugins/gateway/api"
	"github.com/ratchetos/ratchet/qemu/box"
	"github.com/ratchetos/ratchet/qemu/s3server"
	"github.com/ratchetos/ratchet/qemu/vm"
)

const (
	volumeSize = 32 << 20
	dataDisk   = 16 << 20 // less than a test writes while the store is down
)

// volumeConfig has two volumes: main on a blank disk, and foreign on one that holds an ext4.
const volumeConfig = `version: 1
hostname: cached-volume
network: {management: {nic: "mac:52:54:00:72:61:01", dhcp: true}}
time: {ntp: []}
plugins:
  gateway:
    volumes:
      - name: main
        size: 32MiB
        disk: serial:ratchet-data
        upload: {max_age: 500ms}
        store: {driver: s3, endpoint: "http://10.0.2.2:%[1]s", region: us-east-1, bucket: %[2]s, access_key: %[3]s, secret_key: %[4]s}
      - name: foreign
        size: 16MiB
        disk: serial:ratchet-foreign
        store: {driver: s3, endpoint: "http://10.0.2.2:%[1]s", region: us-east-1, bucket: %[2]s, access_key: %[3]s, secret_key: %[4]s}
    nbd: {listen: ["tcp::10809"]}
`

// volumeSuite is a box with volumes, the store they live in, and what main must hold.
type volumeSuite struct {
	dir, image string
	m          *machine
	s3         *s3server.Server
	// want is main as every acknowledged write left it.
	want   []byte
	random *rand.ChaCha8
}

func newVolumeSuite(t *testing.T, name string) *volumeSuite {
	t.Helper()
	dir, image := workspace(t, name, "full")
	v := &volumeSuite{dir: dir, image: image, want: make([]byte, volumeSize), random: rand.NewChaCha8([32]byte{1})}
	var err error
	v.s3, err = s3server.Start(t.Context(), s3server.Options{Dir: filepath.Join(dir, "s3")})
	must(t, err)
	t.Cleanup(func() { v.s3.Stop() })
	return v
}

// down takes the store away, up gives it back as it was, at the same address.
func (v *volumeSuite) down() { v.s3.Stop() }

func (v *volumeSuite) up(t *testing.T) {
	t.Helper()
	var err error
	v.s3, err = s3server.Start(t.Context(), s3server.Options{
		Dir: filepath.Join(v.dir, "s3"), Address: v.s3.Address, Bucket: v.s3.Bucket, AccessKey: v.s3.AccessKey, SecretKey: v.s3.SecretKey,
	})
	must(t, err)
}

// boot powers a machine on, with its own disks; a name that was used before is the same machine.
func (v *volumeSuite) boot(t *testing.T, name string) {
	t.Helper()
	dir := filepath.Join(v.dir, name)
	must(t, os.MkdirAll(dir, 0o755))
	must(t, box.Sparse(filepath.Join(dir, "data.img"), dataDisk))
	must(t, box.Sparse(v.foreignDisk(name), 64<<20))
	_, port, err := net.SplitHostPort(v.s3.Address)
	must(t, err)
	v.m = boot(t, box.Options{
		Image: v.image, Dir: dir,
		Config: fmt.Appendf(nil, volumeConfig, port, v.s3.Bucket, v.s3.AccessKey, v.s3.SecretKey),
		Disks: []vm.Disk{
			{Path: filepath.Join(dir, "data.img"), Serial: "ratchet-data"},
			{Path: v.foreignDisk(name), Model: "nvme", Serial: "ratchet-foreign"},
		},
	})
}

func (v *volumeSuite) foreignDisk(name string) string {
	return filepath.Join(v.dir, name, "foreign.img")
}

func (v *volumeSuite) show(t *testing.T, name string) api.Volume {
	t.Helper()
	return decode[api.Volume](t, []byte(v.m.ctl("volume", "show", name, "-o", "json")))
}

// becomes waits until a volume is as wanted.
func (v *volumeSuite) becomes(t *testing.T, name, what string, is func(api.Volume) bool) (s api.Volume) {
	t.Helper()
	await(t, stepLimit, name+" to be "+what, func() (string, bool) {
		s = v.show(t, name)
		return fmt.Sprintf("%+v", s), is(s)
	})
	return s
}

func (v *volumeSuite) attached(t *testing.T, name string) {
	t.Helper()
	v.becomes(t, name, "attached", func(s api.Volume) bool { return s.State == "attached" })
}

// uploads returns when everything is in the store.
func (v *volumeSuite) uploads(t *testing.T) {
	t.Helper()
	v.m.ctl("volume", "flush", "main")
	if s := v.show(t, "main"); s.DirtyBytes != 0 || s.UploadedSeq != s.DurableSeq {
		t.Fatalf("after volume flush %d bytes are dirty, group %d of %d is uploaded", s.DirtyBytes, s.UploadedSeq, s.DurableSeq)
	}
}

// fresh is data that was never written before and does not compress.
func (v *volumeSuite) fresh(n int) []byte {
	p := make([]byte, n)
	_, _ = v.random.Read(p) // never fails
	return p
}

// copyIn starts to write p to the start of main, flushed at the end. Want changes at once: who looks waits first.
func (v *volumeSuite) copyIn(t *testing.T, p []byte) (wait func()) {
	t.Helper()
	path := filepath.Join(v.dir, "in.img")
	must(t, os.WriteFile(path, p, 0o600))
	copy(v.want, p)
	cmd := command(within(t, bootLimit), nil, "nbdcopy", "--flush", path, v.m.NBD("main"))
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	must(t, cmd.Start())
	return func() {
		t.Helper()
		if err := cmd.Wait(); err != nil {
			t.Fatalf("nbdcopy: %v\n%s", err, said.String())
		}
	}
}

// io lets qemu-io loose on an export; its commands check patterns themselves.
func (v *volumeSuite) io(t *testing.T, export string, commands ...string) {
	t.Helper()
	args := []string{"-f", "raw"}
	for _, c := range commands {
		args = append(args, "-c", c)
	}
	out := tool(t, nil, "qemu-io", append(args, v.m.NBD(export))...)
	if bytes.Contains([]byte(out), []byte("failed")) {
		t.Fatalf("qemu-io %q:\n%s", commands, out)
	}
}

// fill notes a pattern in what main must hold.
func (v *volumeSuite) fill(offset, n int, pattern byte) {
	copy(v.want[offset:offset+n], bytes.Repeat([]byte{pattern}, n))
}

// same reads all of main and compares.
func (v *volumeSuite) same(t *testing.T) {
	t.Helper()
	path := filepath.Join(v.dir, "out.img")
	tool(t, nil, "nbdcopy", v.m.NBD("main"), path)
	got, err := os.ReadFile(path)
	must(t, err)
	if bytes.Equal(got, v.want) {
		return
	}
	for i := range v.want {
		if i >= len(got) || got[i] != v.want[i] {
			t.Fatalf("main is %d bytes and differs from what was written at byte %d (block %d)", len(got), i, i/4096)
		}
	}
}

// garbage says something that no protocol begins with and waits until it is shown the door.
func garbage(t *testing.T, address string, what []byte) {
	t.Helper()
	c, err := net.Dial("tcp", address)
	must(t, err)
	defer c.Close()
	must(t, c.SetDeadline(time.Now().Add(stepLimit)))
	_, _ = c.Write(what) // the server may have hung up in the middle
	// A reset is as good a goodbye as an end.
	if _, err := io.Copy(io.Discard, c); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%s kept a connection open that sent %d bytes of garbage", address, len(what))
	}
}

func digest(t *testing.T, path string) (sum [sha256.Size]byte) {
	t.Helper()
	f, err := os.Open(path)
	must(t, err)
	defer f.Close()
	h := sha256.New()
	_, err = io.Copy(h, f)
	must(t, err)
	return [sha256.Size]byte(h.Sum(nil))
}

func mib(n uint64) string { return strconv.FormatFloat(float64(n)/(1<<20), 'f', 1, 64) + " MiB" }
