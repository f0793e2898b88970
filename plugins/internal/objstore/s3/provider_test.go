package s3_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/ratchetos/ratchet/plugins/internal/objstore"
	"github.com/ratchetos/ratchet/plugins/internal/objstore/objstoretest"
	"github.com/ratchetos/ratchet/plugins/internal/objstore/s3"
	"github.com/ratchetos/ratchet/plugins/internal/objstore/s3/s3test"
)

// TestProviders runs the probe on services that differ as providers and their versions do, and the whole suite on
// those that may be used.
func TestProviders(t *testing.T) {
	opaque := func(data []byte, version int) string { return fmt.Sprintf("%x-%d", len(data), version) }
	for _, tc := range []struct {
		name string
		p    s3test.Provider
		ok   bool
	}{
		{"AWS", s3test.Provider{Busy: true}, true},
		{"AWS with a KMS key", s3test.Provider{ETag: opaque}, true},
		{"MinIO", s3test.Provider{MissingStatus: http.StatusPreconditionFailed}, true},
		{"Ceph", s3test.Provider{DeleteMissing: http.StatusNotFound}, true},
		{"older Ceph, which knows If-None-Match only", s3test.Provider{IgnoresMatch: true}, false},
		{"older AWS clone, which knows If-Match only", s3test.Provider{IgnoresAbsent: true}, false},
		{"Garage, which knows no conditions", s3test.Provider{IgnoresAbsent: true, IgnoresMatch: true}, false},
		{"one that says so", s3test.Provider{Refuses: true}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			at := func(t *testing.T) func(*testing.T) objstore.Store {
				srv := httptest.NewServer(s3test.New(tc.p))
				t.Cleanup(srv.Close)
				return func(t *testing.T) objstore.Store {
					return open(t, s3.Options{Endpoint: srv.URL, Bucket: "bucket", AccessKey: "a", SecretKey: "b"})
				}
			}
			if !tc.ok {
				if err := at(t)(t).Probe(t.Context()); !errors.Is(err, objstore.ErrNoConditional) {
					t.Errorf("probe: %v, want ErrNoConditional", err)
				}
				return
			}
			objstoretest.Run(t, func(t *testing.T) func(*testing.T) objstore.Store {
				open := at(t)
				return func(t *testing.T) objstore.Store { return patient{open(t)} }
			})
		})
	}
}

// patient repeats what did not come through once, as callers do; the suite's plain calls do not.
type patient struct{ objstore.Store }

func (p patient) PutIfAbsent(ctx context.Context, key string, data []byte) (string, error) {
	etag, err := p.Store.PutIfAbsent(ctx, key, data)
	if errors.Is(err, objstore.ErrUnavailable) {
		return p.Store.PutIfAbsent(ctx, key, data)
	}
	return etag, err
}

func (p patient) PutIfMatch(ctx context.Context, key string, data []byte, etag string) (string, error) {
	next, err := p.Store.PutIfMatch(ctx, key, data, etag)
	if errors.Is(err, objstore.ErrUnavailable) {
		return p.Store.PutIfMatch(ctx, key, data, etag)
	}
	return next, err
}

func (p patient) Probe(ctx context.Context) error { return objstore.ProbeConditional(ctx, p) }
