package gateway

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ratchetos/ratchet/plugins/gateway/api"
	"github.com/ratchetos/ratchet/plugins/internal/objstore/s3/s3test"
)

// refusal is an answer of an S3 service to everything.
type refusal struct {
	status int
	code   string
}

// moody is an S3 service that answers everything in one way while it has a mood.
type moody struct {
	http.Handler
	mood atomic.Pointer[refusal]
}

func (m *moody) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if a := m.mood.Load(); a != nil {
		w.WriteHeader(a.status)
		fmt.Fprintf(w, "<Error><Code>%s</Code><Message>no</Message></Error>", a.code)
		return
	}
	m.Handler.ServeHTTP(w, r)
}

// TestStoreRefuses: whatever a service has against us, a volume that was there goes on from its disk, says what to do,
// also when it is started meanwhile, and uploads when the reason is gone.
func TestStoreRefuses(t *testing.T) {
	service := &moody{Handler: s3test.New(s3test.Provider{})}
	server := httptest.NewServer(service)
	defer server.Close()
	b := newBox(t, t.TempDir())
	b.section = section(t, map[string]any{"volumes": []any{map[string]any{
		"name": boxName, "size": boxVolume, "disk": "serial:test", "upload": map[string]any{"max_age": "20ms"},
		"store": map[string]any{"driver": "s3", "endpoint": server.URL, "bucket": "bucket", "access_key": "a", "secret_key": "b"},
	}}})
	f := b.start()
	until(t, f, "attached")
	for i, tc := range []struct {
		refusal
		says, message string
	}{
		{refusal{403, "AccessDenied"}, "give it read, write", "refuses"},
		{refusal{403, "SignatureDoesNotMatch"}, "correct it", "refuses"},
		{refusal{403, "RequestTimeTooSkewed"}, "check time synchronisation", "refuses"},
		{refusal{404, "NoSuchBucket"}, "create it", "refuses"},
		{refusal{403, "QuotaExceeded"}, "raise it", "refuses"},
		{refusal{400, "Something"}, "no", "refuses"},
		{refusal{503, "SlowDown"}, "store unavailable", "does not answer"},
		{refusal{500, "InternalError"}, "store unavailable", "does not answer"},
	} {
		t.Run(tc.code, func(t *testing.T) {
			p := bytes.Repeat([]byte(tc.code+" "), 4096)
			off := uint64(i) << 20
			write := func(off uint64) {
				t.Helper()
				c := b.mustDial()
				defer c.Abandon()
				if err := c.Write(off, p, true); err != nil {
					t.Fatalf("write while the store refuses: %v", err)
				}
				if got, err := c.Read(off, uint32(len(p))); err != nil || !bytes.Equal(got, p) {
					t.Fatalf("read while the store refuses: %v", err)
				}
			}
			said := func() {
				t.Helper()
				var v api.Volume
				for end := time.Now().Add(15 * time.Second); ; time.Sleep(time.Millisecond) {
					if v = until(t, f, "detached"); strings.Contains(v.RemoteProblem, tc.says) && strings.Contains(v.Message, tc.message) {
						return
					}
					if time.Now().After(end) {
						t.Fatalf("the problem is %q (%s), it should say %q", v.RemoteProblem, v.Message, tc.says)
					}
				}
			}
			service.mood.Store(&tc.refusal)
			write(off)
			said()
			if err := f.Stop(t.Context()); err != nil {
				t.Fatal(err)
			}
			f = b.start()
			write(off + 256<<10)
			said()
			service.mood.Store(nil)
			v, err := invoke[api.Volume](t, f, api.MethodFlush, api.FlushRequest{Name: boxName})
			if err != nil || v.State != "attached" || v.DirtyBytes != 0 {
				t.Fatalf("when the reason is gone: %v, %+v", err, v)
			}
		})
	}
}

// TestStoreThatCannotBeOpened: a volume waits for it, ends without it, and serves when it is there.
func TestStoreThatCannotBeOpened(t *testing.T) {
	b := newBox(t, t.TempDir())
	b.section = section(t, map[string]any{"volumes": []any{map[string]any{
		"name": boxName, "size": boxVolume, "disk": "serial:test", "store": map[string]any{"driver": "dir", "path": b.store, "prefix": "sub"},
	}}})
	in := filepath.Join(b.store, "sub")
	if err := os.WriteFile(in, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	f := b.start()
	until(t, f, "waiting")
	if err := f.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	f = b.start()
	until(t, f, "waiting")
	if err := os.Remove(in); err != nil {
		t.Fatal(err)
	}
	until(t, f, "attached")
	if err := b.mustDial().Write(0, marker(), true); err != nil {
		t.Error(err)
	}
}
