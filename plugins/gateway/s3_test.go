package gateway

import (
	"bytes"
	"context"
	"testing"

	"github.com/ratchetos/ratchet/plugins/gateway/api"
	"github.com/ratchetos/ratchet/qemu/s3server"
)

// TestS3 runs a volume on a real S3 service that dies and comes back.
func TestS3(t *testing.T) {
	dir := t.TempDir()
	server, err := s3server.Start(context.Background(), s3server.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { server.Stop() }()
	volume := map[string]any{
		"name": "demo", "size": boxVolume, "disk": "serial:test", "upload": map[string]any{"max_age": "20ms"},
		"store": map[string]any{
			"driver": "s3", "endpoint": server.Endpoint, "region": server.Region, "bucket": server.Bucket, "prefix": "site-a",
			"access_key": server.AccessKey, "secret_key": server.SecretKey,
		},
	}
	b := newBox(t, t.TempDir())
	b.section = section(t, map[string]any{"volumes": []any{volume}})
	f := b.start()
	c := b.mustDial()
	p := bytes.Repeat([]byte("first"), 1<<18)
	if err := c.Write(0, p, false); err != nil {
		t.Fatal(err)
	}
	if _, err := invoke[api.Volume](t, f, api.MethodFlush, api.FlushRequest{Name: "demo"}); err != nil {
		t.Fatal(err)
	}

	server.Kill()
	q := bytes.Repeat([]byte("later"), 1<<18)
	if err := c.Write(4<<20, q, false); err != nil {
		t.Fatal(err)
	}
	if v := until(t, f, "detached"); v.DirtyBytes == 0 || v.RemoteProblem == "" {
		t.Errorf("while the service is dead: %+v", v)
	}
	if got, err := c.Read(0, uint32(len(p))); err != nil || !bytes.Equal(got, p) {
		t.Errorf("read while the service is dead: %v", err)
	}
	server, err = s3server.Start(context.Background(), s3server.Options{
		Dir: dir, Address: server.Address, Bucket: server.Bucket, AccessKey: server.AccessKey, SecretKey: server.SecretKey,
	})
	if err != nil {
		t.Fatal(err)
	}
	v, err := invoke[api.Volume](t, f, api.MethodFlush, api.FlushRequest{Name: "demo"})
	if err != nil || v.State != "attached" || v.DirtyBytes != 0 {
		t.Fatalf("after it came back: %v, %+v", err, v)
	}
	if err := f.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}

	// On a new box everything comes from the service.
	next := newBox(t, t.TempDir())
	next.section = b.section
	f = next.start()
	c = next.mustDial()
	for off, want := range map[uint64][]byte{0: p, 4 << 20: q} {
		if got, err := c.Read(off, uint32(len(want))); err != nil || !bytes.Equal(got, want) {
			t.Errorf("on a new box, at %d: %v", off, err)
		}
	}
	if v, err := invoke[api.Volume](t, f, api.MethodShow, api.VolumeRequest{Name: "demo"}); err != nil || v.Misses == 0 || v.Epoch != 2 {
		t.Errorf("on a new box: %v, %+v", err, v)
	}
}
