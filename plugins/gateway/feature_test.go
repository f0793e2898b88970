package gateway

import (
	"bytes"
	"errors"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/ratchetos/ratchet/core/plugin"
	"github.com/ratchetos/ratchet/hw/disk"
	"github.com/ratchetos/ratchet/plugins/gateway/api"
	"github.com/ratchetos/ratchet/plugins/gateway/nbd/nbdtest"
)

// until waits for the volume to get into a state.
func until(t *testing.T, f *Feature, state string) api.Volume {
	t.Helper()
	for end := time.Now().Add(15 * time.Second); ; time.Sleep(2 * time.Millisecond) {
		v, err := invoke[api.Volume](t, f, api.MethodShow, api.VolumeRequest{Name: "demo"})
		if err != nil {
			t.Fatal(err)
		}
		if v.State == state {
			return v
		}
		if time.Now().After(end) {
			t.Fatalf("state is %s (%s), want %s", v.State, v.Message, state)
		}
	}
}

// TestServe goes the whole way: write, upload, restart, read back; and looks at what is reported.
func TestServe(t *testing.T) {
	b := newBox(t, t.TempDir())
	f := b.start()
	c := b.mustDial()
	p := bytes.Repeat([]byte("a cached volume "), 1<<18) // 4 MiB
	if err := c.Write(1<<20, p, true); err != nil {
		t.Fatal(err)
	}
	if err := c.Trim(2<<20, 1<<20); err != nil {
		t.Fatal(err)
	}
	clear(p[1<<20 : 2<<20])
	v, err := invoke[api.Volume](t, f, api.MethodFlush, api.FlushRequest{Name: "demo", TimeoutMS: 20000})
	if err != nil || v.DirtyBytes != 0 || v.UploadBatches == 0 {
		t.Fatalf("flush: %v, %+v", err, v)
	}
	if v.Connections != 1 || v.Remote != "ok" || v.State != "attached" {
		t.Errorf("show: %+v", v)
	}
	e := event(f.runners, f.disks)
	if len(e.Tables) != 1 || len(e.Tables[0].Rows) != 1 || len(e.Tables[0].Rows[0].Cells) != len(e.Tables[0].Columns) || len(e.Gauges) == 0 {
		t.Errorf("event: %v", e)
	}
	c.Abandon()
	if err := f.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}

	start := time.Now()
	f = b.start()
	took := time.Since(start)
	v, err = invoke[api.Volume](t, f, api.MethodShow, api.VolumeRequest{Name: "demo"})
	t.Logf("start to ready %v, of that the volume %v (%v)", took, time.Duration(v.OpenDurationUS)*time.Microsecond, err)
	c = b.mustDial()
	got, err := c.Read(1<<20, uint32(len(p)))
	if err != nil || !bytes.Equal(got, p) {
		t.Fatalf("read after restart: %v, same %v", err, bytes.Equal(got, p))
	}
	list, err := invoke[api.ListReply](t, f, api.MethodList, struct{}{})
	if err != nil || len(list.Volumes) != 1 || list.Volumes[0].Misses != 0 {
		t.Errorf("after a restart all is still local: %+v, %v", list, err)
	}
	if err := f.Configure(t.Context(), plugin.Section{JSON: []byte(`{}`)}); !errors.Is(err, plugin.ErrNeedsRestart) {
		t.Errorf("another section while started: %v", err)
	}
	if _, err := f.Invoke(t.Context(), api.MethodShow, []byte(`{"name":"other"}`)); err == nil || !strings.Contains(err.Error(), "volume list") {
		t.Errorf("unknown volume: %v", err)
	}
	if _, err := f.Invoke(t.Context(), "volumes.explode", []byte(`{}`)); err == nil {
		t.Error("unknown method answered")
	}
}

// TestForeignDisk leaves a disk with something on it alone until somebody erases it.
func TestForeignDisk(t *testing.T) {
	for kind, put := range map[string]func(disk string) error{
		"ext2/3/4": func(disk string) error { return exec.Command("/sbin/mkfs.ext4", "-q", "-F", disk).Run() },
		"unknown data": func(disk string) error {
			f, err := os.OpenFile(disk, os.O_RDWR, 0)
			if err != nil {
				return err
			}
			defer f.Close()
			_, err = f.WriteAt([]byte("somebody's data"), boxDisk-5000)
			return err
		},
	} {
		t.Run(kind, func(t *testing.T) {
			b := newBox(t, t.TempDir())
			if err := put(b.disk); err != nil {
				t.Fatal(err)
			}
			before, err := os.ReadFile(b.disk)
			if err != nil {
				t.Fatal(err)
			}
			f := b.start()
			v := until(t, f, "needs-claim")
			if !strings.Contains(v.Message, kind) || !strings.Contains(v.Message, "ratchetctl hw claim serial:test --erase") {
				t.Errorf("message: %s", v.Message)
			}
			after, err := os.ReadFile(b.disk)
			if err != nil || !bytes.Equal(before, after) {
				t.Errorf("the disk was written to: %v", err)
			}
			if e := event(f.runners, f.disks); e.Health.String() != "DEGRADED" {
				t.Errorf("health: %v", e.Health)
			}
			if err := erase(b.disk); err != nil {
				t.Fatal(err)
			}
			until(t, f, "attached")
		})
	}
}

// erase is what core does for hw claim --erase.
func erase(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return errors.Join(disk.Claim(f, boxDisk, true), f.Close())
}

// TestEraseStartsOver: a disk with volumes on it that is erased is a blank one, and the volume comes from its store. It is the way on for
// one that is fenced, or diverged.
func TestEraseStartsOver(t *testing.T) {
	b := newBox(t, t.TempDir())
	f := b.start()
	c := b.mustDial()
	want := marker()
	if err := c.Write(1<<20, want, true); err != nil {
		t.Fatal(err)
	}
	if _, err := invoke[api.Volume](t, f, api.MethodFlush, api.FlushRequest{Name: boxName}); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Stop(t.Context()), erase(b.disk)); err != nil {
		t.Fatal(err)
	}
	f = b.start()
	until(t, f, "attached")
	if got, err := b.mustDial().Read(1<<20, uint32(len(want))); err != nil || !bytes.Equal(got, want) {
		t.Errorf("read: %v, same %t", err, bytes.Equal(got, want))
	}
	if v, err := invoke[api.Volume](t, f, api.MethodShow, api.VolumeRequest{Name: boxName}); err != nil || v.Misses == 0 {
		t.Errorf("it did not come from the store: %+v, %v", v, err)
	}
}

// TestStoreMissing waits with a blank disk for its store.
func TestStoreMissing(t *testing.T) {
	b := newBox(t, t.TempDir())
	b.section = bytes.Replace(b.section, []byte(`"driver":"dir","path":"`+b.store+`"`),
		[]byte(`"driver":"s3","endpoint":"http://127.0.0.1:9","bucket":"none","access_key":"a","secret_key":"b"`), 1)
	f := b.start()
	v := until(t, f, stateWaiting)
	if v.Message == "" {
		t.Error("no reason given")
	}
	if c, err := nbdtest.Dial(t.Context(), "unix", b.listener.Addr().String(), "demo", nbdtest.Options{Timeout: 200 * time.Millisecond}); err == nil {
		c.Abandon()
		t.Error("a volume that does not serve is exported")
	}
}

// TestGarbage throws noise at the port; the volume goes on.
func TestGarbage(t *testing.T) {
	b := newBox(t, t.TempDir())
	b.start()
	c := b.mustDial()
	for i := range 20 {
		conn, err := net.Dial("unix", b.listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		_, _ = conn.Write(bytes.Repeat([]byte{byte(i), 0xff, 'I'}, 1000))
		conn.Close()
	}
	if err := c.Write(0, make([]byte, 4096), false); err != nil {
		t.Error(err)
	}
}
