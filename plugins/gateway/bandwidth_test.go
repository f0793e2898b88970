package gateway

import (
	"bytes"
	"context"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/ratchetos/ratchet/core/plugin"
	"github.com/ratchetos/ratchet/plugins/gateway/api"
)

// TestBandwidth limits the uploads of a volume by the clock on the wall, and takes the limit away while it serves.
func TestBandwidth(t *testing.T) {
	const rate, batch, batches = 4 << 20, 1 << 20, 3
	b := newBox(t, t.TempDir())
	free := b.section
	b.section = bytes.Replace(free, []byte(`"upload":{`), []byte(`"upload":{"max_batch":1048576,"bandwidth":[{"from":"00:00","to":"24:00","rate":4194304}],`), 1)
	f := b.start()
	c := b.mustDial()
	data := make([]byte, batch*batches)
	_, _ = rand.NewChaCha8([32]byte{3}).Read(data) // never fails
	write := func() {
		t.Helper()
		for off := 0; off < len(data); off += batch {
			if err := c.Write(uint64(off), data[off:off+batch], true); err != nil {
				t.Fatal(err)
			}
		}
	}
	flush := func() {
		t.Helper()
		if _, err := invoke[api.Volume](t, f, api.MethodFlush, api.FlushRequest{Name: boxName}); err != nil {
			t.Fatal(err)
		}
	}
	start := time.Now()
	write()
	flush()
	// What goes last waits until all before it is through.
	if took, least := time.Since(start), time.Duration(len(data)-batch)*time.Second/rate*9/10; took < least {
		t.Errorf("%d MiB went out in %s, at %d MiB a second that takes %s at least", len(data)>>20, took, rate>>20, least)
	}

	// As slow as it can be: what waits for minutes goes at once when the limit is taken away.
	slow := bytes.Replace(b.section, []byte(`"rate":4194304`), []byte(`"rate":65536`), 1)
	none := bytes.Replace(b.section, []byte(`"bandwidth":[{"from":"00:00","to":"24:00","rate":4194304}],`), nil, 1)
	if err := f.Configure(t.Context(), plugin.Section{JSON: slow}); err != nil {
		t.Fatal(err)
	}
	write()
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err := f.Invoke(ctx, api.MethodFlush, section(t, api.FlushRequest{Name: boxName})); err == nil {
		t.Error("3 MiB at 64 KiB a second went out at once")
	}
	if err := f.Configure(t.Context(), plugin.Section{JSON: none}); err != nil {
		t.Fatal(err)
	}
	flush()
}
