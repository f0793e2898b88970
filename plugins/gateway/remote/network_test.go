package remote

import (
	"context"
	"maps"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"github.com/ratchetos/ratchet/plugins/internal/objstore"
	"github.com/ratchetos/ratchet/plugins/internal/objstore/faults"
	"github.com/ratchetos/ratchet/plugins/internal/objstore/objstoretest"
	"github.com/ratchetos/ratchet/plugins/internal/objstore/s3"
	"github.com/ratchetos/ratchet/plugins/internal/objstore/s3/s3test"
)

// line is a network between a volume and an S3 service that can be made to misbehave.
type line struct {
	t     *testing.T
	proxy *toxiproxy.Proxy
}

func newLine(t *testing.T, timeout time.Duration) (*line, *s3.Store) {
	t.Helper()
	srv := httptest.NewServer(s3test.New(s3test.Provider{Busy: true}))
	t.Cleanup(srv.Close)
	zerolog.SetGlobalLevel(zerolog.Disabled) // toxics write traces of their own accord
	server := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())
	proxy := toxiproxy.NewProxy(server, "s3", "127.0.0.1:0", strings.TrimPrefix(srv.URL, "http://"))
	if err := proxy.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(proxy.Stop)
	store, err := s3.Open(s3.Options{
		Endpoint: "http://" + proxy.Listen, Bucket: "bucket", AccessKey: "a", SecretKey: "b", Timeout: timeout,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	return &line{t, proxy}, store
}

func (l *line) add(toxic string) {
	l.t.Helper()
	if _, err := l.proxy.Toxics.AddToxicJson(strings.NewReader(toxic)); err != nil {
		l.t.Fatal(err)
	}
}

// TestNetwork commits, reads and tidies over a line that loses, delays and cuts. All that was reported as committed is
// there in the end, nothing twice, and another session agrees.
func TestNetwork(t *testing.T) {
	for _, toxics := range [][]string{
		{`{"type": "latency", "stream": "downstream", "attributes": {"latency": 5, "jitter": 5}}`},
		{`{"type": "reset_peer", "stream": "upstream", "toxicity": 0.3, "attributes": {"timeout": 1}}`},
		{`{"type": "reset_peer", "stream": "downstream", "toxicity": 0.3, "attributes": {"timeout": 3}}`}, // often after the service has done it
		{`{"type": "timeout", "stream": "downstream", "toxicity": 0.1, "attributes": {"timeout": 20}}`},
		{`{"type": "limit_data", "stream": "upstream", "toxicity": 0.5, "attributes": {"bytes": 3000}}`}, // in the middle of a put
		{`{"type": "limit_data", "stream": "downstream", "toxicity": 0.5, "attributes": {"bytes": 900}}`},
		{`{"type": "bandwidth", "stream": "upstream", "attributes": {"rate": 2000}}`, `{"type": "slow_close", "stream": "downstream", "attributes": {"delay": 5}}`},
	} {
		name := strings.Join(strings.FieldsFunc(toxics[0], func(r rune) bool { return strings.ContainsRune(`{}":, `, r) })[1:4], " ")
		t.Run(name, func(t *testing.T) {
			l, store := newLine(t, 300*time.Millisecond)
			h := newHistory(t, 21, Options{})
			h.opts.Store, h.r, h.seq = store, nil, 0
			h.opts.FirstPause = 100 * time.Microsecond
			h.open()
			for _, toxic := range toxics {
				l.add(toxic)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
			defer cancel()
			for range 8 {
				h.must(h.commit(ctx, 4))
			}
			h.must(h.r.Compact(ctx), h.check())
			h.clock = h.clock.Add(2 * time.Minute)
			h.must(h.tidy(ctx), h.commit(ctx, 4))
			l.proxy.Toxics.ResetToxics(ctx)
			h.must(h.check())
			h.open()
			h.must(h.check())
		})
	}
}

// TestOutage cuts the line: commits and reads wait, the state says so, and both go on when it is back.
func TestOutage(t *testing.T) {
	l, store := newLine(t, 100*time.Millisecond)
	h := newHistory(t, 22, Options{})
	h.opts.Store, h.r, h.seq = store, nil, 0
	h.open()
	h.must(h.commit(t.Context(), 4))
	model, cells := maps.Clone(h.model), maps.Clone(h.cells)
	l.proxy.Stop()
	store.Close() // with the connections that are open
	ctx, cancel := context.WithTimeout(t.Context(), 400*time.Millisecond)
	defer cancel()
	if err := h.commit(ctx, 4); err == nil {
		t.Fatal("commit over a line that is cut")
	}
	if s := h.r.Health(); !s.Down || s.Err == nil {
		t.Errorf("health: %+v", s)
	}
	for cell := range cells {
		if _, mask, _, err := h.r.Cell(ctx, cell); err == nil && mask != 0 {
			t.Fatal("read over a line that is cut")
		}
	}
	if err := l.proxy.Start(); err != nil {
		t.Fatal(err)
	}
	// The batch that did not come through is another one now, as after a restart of the uploader.
	h.model = model
	h.must(h.commit(t.Context(), 4), h.check())
	if s := h.r.Health(); s.Down {
		t.Errorf("health: %+v", s)
	}
}

// TestSlowCalls: a thin line that many calls share may take however long for each; none is given up and done again. While
// anything comes the store counts as one that answers.
func TestSlowCalls(t *testing.T) {
	const cells = 16
	s := faults.New(objstoretest.NewMemory(), faults.Options{})
	r := attach(t, creeping{s}, "us", Local{})
	for seq := uint64(1); seq <= cells; seq++ {
		if err := r.Commit(t.Context(), batch(t, r, seq, 1, seq-1)); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, _, err := r.Cell(t.Context(), 0); err != nil { // what compresses keeps channels, which must not be a bubble's
		t.Fatal(err)
	}
	s.Latency(time.Hour)
	gets, puts := s.Calls(faults.Get), s.Calls(faults.PutIfAbsent)
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Hour)
		defer cancel()
		begun := time.Now()
		var g errgroup.Group
		for cell := range uint64(cells) {
			g.Go(func() error { _, _, _, err := r.Cell(ctx, cell); return err })
		}
		for range 4 {
			b := batch(t, r, cells+1, 1, 1)
			g.Go(func() error { return r.Put(ctx, b) })
		}
		synctest.Wait()
		time.Sleep(30 * time.Minute)
		if silent := time.Since(r.Answered()).Abs(); silent > time.Minute { // before the bubble's time began, or since
			t.Errorf("in the middle of many calls the store counts as silent for %s", silent)
		}
		if err := g.Wait(); err != nil {
			t.Error(err)
		}
		gets, puts = s.Calls(faults.Get)-gets, s.Calls(faults.PutIfAbsent)-puts
		if took := time.Since(begun); took != time.Hour || gets != cells || puts != 4 {
			t.Errorf("%d cells and 4 objects took %s, %d gets and %d puts", cells, took, gets, puts)
		}
	})
}

// creeping is a store that gets a little of an answer every minute.
type creeping struct{ objstore.Store }

func (s creeping) Get(ctx context.Context, key string, off, n int64) ([]byte, error) {
	tick := time.NewTicker(time.Minute)
	defer tick.Stop()
	done := make(chan struct{})
	defer close(done)
	go func() {
		for {
			select {
			case <-tick.C:
				objstore.Moved(ctx)
			case <-done:
				return
			}
		}
	}()
	return s.Store.Get(ctx, key, off, n)
}
