package gateway

import (
	"context"
	"sync/atomic"

	"github.com/ratchetos/ratchet/core/plugin/pluginpb"
	"github.com/ratchetos/ratchet/plugins/internal/objstore"
)

// traffic counts what a volume asks of its store: what the provider charges for. The zero value has counted nothing. It may
// be used from many goroutines.
type traffic struct {
	get, put, head, list, remove atomic.Uint64 // requests, failed ones too; what a probe does is not among them
	received, sent               atomic.Uint64 // bytes of objects
}

// counted is a store whose traffic is counted.
type counted struct {
	objstore.Store
	traffic *traffic
}

var _ objstore.Store = counted{}

func (c counted) Get(ctx context.Context, key string, off, n int64) ([]byte, error) {
	c.traffic.get.Add(1)
	p, err := c.Store.Get(ctx, key, off, n)
	c.traffic.received.Add(uint64(len(p)))
	return p, err
}

func (c counted) Load(ctx context.Context, key string) ([]byte, string, error) {
	c.traffic.get.Add(1)
	p, etag, err := c.Store.Load(ctx, key)
	c.traffic.received.Add(uint64(len(p)))
	return p, etag, err
}

func (c counted) Head(ctx context.Context, key string) (objstore.Info, error) {
	c.traffic.head.Add(1)
	return c.Store.Head(ctx, key)
}

func (c counted) PutIfAbsent(ctx context.Context, key string, data []byte) (string, error) {
	c.traffic.put.Add(1)
	c.traffic.sent.Add(uint64(len(data)))
	return c.Store.PutIfAbsent(ctx, key, data)
}

func (c counted) PutIfMatch(ctx context.Context, key string, data []byte, etag string) (string, error) {
	c.traffic.put.Add(1)
	c.traffic.sent.Add(uint64(len(data)))
	return c.Store.PutIfMatch(ctx, key, data, etag)
}

func (c counted) List(ctx context.Context, prefix, after string, fn func(objstore.Info) error) error {
	c.traffic.list.Add(1)
	return c.Store.List(ctx, prefix, after, fn)
}

func (c counted) Delete(ctx context.Context, key string) error {
	c.traffic.remove.Add(1)
	return c.Store.Delete(ctx, key)
}

// gauges are the counters of a volume.
func (t *traffic) gauges(volume string) (out []*pluginpb.Gauge) {
	for _, r := range []struct {
		name  string
		count *atomic.Uint64
	}{{"get", &t.get}, {"put", &t.put}, {"head", &t.head}, {"list", &t.list}, {"delete", &t.remove}} {
		out = append(out, gauge{"volume_store_requests_total", "asked of the store since start", float64(r.count.Load()), true}.of(map[string]string{"volume": volume, "request": r.name}))
	}
	labels := map[string]string{"volume": volume}
	return append(out,
		gauge{"volume_store_received_bytes_total", "of objects that came from the store since start", float64(t.received.Load()), true}.of(labels),
		gauge{"volume_store_sent_bytes_total", "of objects that went to the store since start, repetitions too", float64(t.sent.Load()), true}.of(labels))
}
