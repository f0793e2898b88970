package gateway

import (
	"bytes"
	"os"
	"testing"
	"time"

	"github.com/ratchetos/ratchet/plugins/gateway/api"
)

func TestDue(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	const week = 7 * 24 * time.Hour
	for name, tc := range map[string]struct {
		last        time.Time
		every, want time.Duration
	}{
		"never":                {time.Time{}, week, firstScrub},
		"just now":             {now, week, week},
		"three days ago":       {now.Add(-3 * 24 * time.Hour), week, 4 * 24 * time.Hour},
		"overdue":              {now.Add(-3 * week), week, firstScrub},
		"due in a moment":      {now.Add(-week + time.Second), week, firstScrub},
		"in the future":        {now.Add(time.Hour), week, firstScrub},
		"often, never":         {time.Time{}, time.Minute, time.Minute},
		"often, ten hours ago": {now.Add(-10 * time.Hour), time.Minute, time.Minute},
	} {
		if got := due(now, tc.last, tc.every); got != tc.want {
			t.Errorf("%s: in %s, want %s", name, got, tc.want)
		}
	}
}

// flip turns one bit around of the place on the disk that holds p.
func (b *box) flip(p []byte) {
	b.t.Helper()
	f, err := os.OpenFile(b.disk, os.O_RDWR, 0)
	if err != nil {
		b.t.Fatal(err)
	}
	defer f.Close()
	disk, err := os.ReadFile(b.disk)
	if err != nil {
		b.t.Fatal(err)
	}
	at := bytes.Index(disk, p)
	if at < 0 {
		b.t.Fatal("what was written is not on the disk")
	}
	at += len(p) / 2
	if _, err := f.WriteAt([]byte{disk[at] ^ 0x10}, int64(at)); err != nil {
		b.t.Fatal(err)
	}
	if err := f.Sync(); err != nil {
		b.t.Fatal(err)
	}
}

// scrubbed asks for a pass and waits for its end.
func scrubbed(t *testing.T, f *Feature) api.Volume {
	t.Helper()
	v, err := invoke[api.Volume](t, f, api.MethodScrub, api.ScrubRequest{Name: boxName, Rate: 1 << 30})
	if err != nil {
		t.Fatal(err)
	}
	passes := v.Scrub.Passes
	for end := time.Now().Add(15 * time.Second); v.Scrub.Passes == passes; time.Sleep(2 * time.Millisecond) {
		if v, err = invoke[api.Volume](t, f, api.MethodShow, api.VolumeRequest{Name: boxName}); err != nil || time.Now().After(end) {
			t.Fatalf("the pass does not end: %v, %+v", err, v.Scrub)
		}
	}
	return v
}

// TestScrub flips bits on the disk: what the store has comes from there again, what it has not is reported.
func TestScrub(t *testing.T) {
	b := newBox(t, t.TempDir())
	b.host = newHost()
	f := b.start()
	c := b.mustDial()
	want := marker()
	if err := c.Write(1<<20, want, true); err != nil {
		t.Fatal(err)
	}
	if _, err := invoke[api.Volume](t, f, api.MethodFlush, api.FlushRequest{Name: boxName}); err != nil {
		t.Fatal(err)
	}
	if v := scrubbed(t, f); v.Scrub.Repaired != 0 || v.Scrub.Bytes < uint64(len(want)) {
		t.Errorf("on a good disk: %+v", v.Scrub)
	}
	b.flip(want[8192 : 8192+4096])
	v := scrubbed(t, f)
	if v.Scrub.Repaired != 1 || v.Scrub.Lost != 0 || v.CorruptBlocks != 1 || v.LostReads != 0 {
		t.Errorf("after one bit was flipped: %+v, %d corrupt, %d lost", v.Scrub, v.CorruptBlocks, v.LostReads)
	}
	misses := v.Misses
	if got, err := c.Read(1<<20, uint32(len(want))); err != nil || !bytes.Equal(got, want) {
		t.Errorf("read after the repair: %v, same %t", err, bytes.Equal(got, want))
	}
	if v := scrubbed(t, f); v.Scrub.Repaired != 1 || v.Misses != misses {
		t.Errorf("once repaired it is whole and here: %+v, %d reads from the store", v.Scrub, v.Misses-misses)
	}
	c.Abandon()
	if err := f.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}

	// The next process knows when that was, and one whose uploads are held has data that is nowhere else.
	b.section = bytes.Replace(b.section, []byte(`"upload":{`), []byte(`"upload":{"hold":true,`), 1)
	f = b.start()
	if v, err := invoke[api.Volume](t, f, api.MethodShow, api.VolumeRequest{Name: boxName}); err != nil || time.Since(v.Scrub.Last) > time.Minute {
		t.Errorf("the time of the last pass is lost: %+v, %v", v.Scrub, err)
	}
	young := bytes.Repeat([]byte("not yet in the store, "), 4096)[:4096]
	c = b.mustDial()
	if err := c.Write(4<<20, young, true); err != nil {
		t.Fatal(err)
	}
	b.flip(young)
	if v := scrubbed(t, f); v.Scrub.Lost != 1 || v.LostReads == 0 {
		t.Errorf("damaged data that is in no store: %+v", v.Scrub)
	}
	if e := event(f.runners, f.disks); e.Health.String() != "DEGRADED" {
		t.Errorf("health: %v, %s", e.Health, e.Message)
	}
}
