package s3

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/ratchetos/ratchet/plugins/internal/objstore"
)

const (
	// sendBuffer is how much of a request, in bytes, may have left us for the kernel and not for the line yet: the largest
	// send buffer that Linux grows a connection's to.
	sendBuffer = 4 << 20
	// slowest is the rate in bytes per second at which that is given time to drain.
	slowest = 32 << 10
)

var errSilent = fmt.Errorf("%w: nothing has moved for too long", objstore.ErrUnavailable)

// watch ends a call when nothing of it has moved for limit. How long all of it takes says nothing: many calls may share a
// thin line.
type watch struct {
	limit time.Duration
	timer *time.Timer
}

type watchKey struct{}

// watch bounds the silence of a call that sends n bytes. end releases it, and gives a call that it has ended its error.
func (s *Store) watch(parent context.Context, n int64) (ctx context.Context, end func(*error)) {
	ctx, cancel := context.WithCancelCause(parent)
	w := &watch{limit: s.timeout + time.Duration(min(n, sendBuffer))*time.Second/slowest}
	w.timer = time.AfterFunc(w.limit, func() { cancel(errSilent) })
	return context.WithValue(ctx, watchKey{}, w), func(err *error) {
		w.timer.Stop()
		if *err != nil && errors.Is(context.Cause(ctx), errSilent) {
			*err = errSilent
		}
		cancel(nil)
	}
}

// moved begins a new silence.
func (w *watch) moved() { w.timer.Reset(w.limit) }

// watched tells the watch of a call when bytes of its requests and their answers move, and the store's caller of the answers.
type watched struct{ http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (t watched) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx := req.Context()
	w := ctx.Value(watchKey{}).(*watch)
	if req.Body != nil && req.Body != http.NoBody {
		req = req.WithContext(ctx) // a copy, since the body is the caller's
		req.Body = moving{req.Body, w.moved}
	}
	resp, err := t.RoundTripper.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	w.moved()
	resp.Body = moving{resp.Body, func() { w.moved(); objstore.Moved(ctx) }}
	return resp, nil
}

// moving is a body that calls moved for every piece of it.
type moving struct {
	io.ReadCloser
	moved func()
}

func (m moving) Read(p []byte) (int, error) {
	n, err := m.ReadCloser.Read(p)
	if n > 0 {
		m.moved()
	}
	return n, err
}
