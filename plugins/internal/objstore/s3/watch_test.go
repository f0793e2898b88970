package s3_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ratchetos/ratchet/plugins/internal/objstore"
	"github.com/ratchetos/ratchet/plugins/internal/objstore/s3"
)

// thin is a line over which a KiB of each call goes at a time. After so many it is dead.
type thin struct {
	pause   time.Duration
	bytes   int
	request context.Context
	body    io.Reader
}

func (l *thin) Read(p []byte) (int, error) {
	if l.bytes <= 0 {
		<-l.request.Done()
		return 0, context.Cause(l.request)
	}
	time.Sleep(l.pause)
	n, err := l.body.Read(p[:min(len(p), 1<<10)])
	l.bytes -= n
	return n, err
}

// far is a service with one object behind a line.
type far struct {
	data  string
	alive int // bytes of a call that come over the line each way
	pause time.Duration
}

func (f far) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body != nil {
		if _, err := io.Copy(io.Discard, &thin{f.pause, f.alive, r.Context(), r.Body}); err != nil {
			return nil, err
		}
	}
	body := f.data
	if r.URL.Query().Has("list-type") {
		body = "<ListBucketResult>" + strings.Repeat("<Contents><Key>k</Key></Contents>", 1000) + "</ListBucketResult>"
	}
	return &http.Response{
		StatusCode: http.StatusOK, ContentLength: int64(len(body)), Request: r,
		Header: http.Header{"Etag": {`"e"`}, "Content-Length": {strconv.Itoa(len(body))}, "Last-Modified": {time.Unix(1, 0).UTC().Format(http.TimeFormat)}},
		Body:   io.NopCloser(&thin{f.pause, f.alive, r.Context(), strings.NewReader(body)}),
	}, nil
}

// TestThinLine moves a KiB of each call every 20 seconds. However long a call takes, it ends only when nothing moves any
// more, and while its answer comes its caller hears of it.
func TestThinLine(t *testing.T) {
	data := strings.Repeat("x", 512<<10)
	for name, call := range map[string]func(context.Context, objstore.Store) error{
		"get": func(ctx context.Context, s objstore.Store) error { _, err := s.Get(ctx, "k", 0, -1); return err },
		"put": func(ctx context.Context, s objstore.Store) error {
			_, err := s.PutIfAbsent(ctx, "k", []byte(data))
			return err
		},
		"list": func(ctx context.Context, s objstore.Store) error {
			return s.List(ctx, "", "", func(objstore.Info) error { return nil })
		},
	} {
		for _, alive := range []int{1 << 30, 20 << 10} {
			synctest.Test(t, func(t *testing.T) {
				line := far{data: data, alive: alive, pause: 20 * time.Second}
				s := open(t, s3.Options{Endpoint: "http://host", Bucket: "bucket", Transport: line})
				heard := 0
				start := time.Now()
				err := call(objstore.WithProgress(t.Context(), func() { heard++ }), s)
				took := time.Since(start)
				switch what := fmt.Sprintf("%s, a line for %d bytes", name, alive); {
				case alive >= 1<<30 && (err != nil || took < 10*time.Minute):
					t.Errorf("%s: %v after %s", what, err, took)
				case alive < 1<<30 && (!errors.Is(err, objstore.ErrUnavailable) || took > 10*time.Minute):
					t.Errorf("%s: %v after %s, want ErrUnavailable", what, err, took)
				case name != "put" && heard < 20:
					t.Errorf("%s: heard of %d pieces", what, heard)
				}
			})
		}
	}
}
