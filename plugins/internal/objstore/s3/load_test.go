package s3_test

import (
	"crypto/md5"
	"encoding/hex"
	"errors"
	"net/http"
	"net/http/httptest"
	"strconv"
	"testing"
	"time"

	"github.com/ratchetos/ratchet/plugins/internal/objstore"
	"github.com/ratchetos/ratchet/plugins/internal/objstore/s3"
)

// TestLoadReplaced: of a service that reads etag and bytes one after the other, and of one whose etags say nothing of the
// bytes, Load returns what belongs together or an error.
func TestLoadReplaced(t *testing.T) {
	type answer struct{ data, etag string }
	of := func(data string) string { sum := md5.Sum([]byte(data)); return hex.EncodeToString(sum[:]) }
	for name, tc := range map[string]struct {
		answer func(n int) answer // to the n-th request
		want   answer
	}{
		"quiet": {func(int) answer { return answer{"new", of("new")} }, answer{"new", of("new")}},
		"replaced between": {func(n int) answer {
			if n < 3 {
				return answer{"old" + strconv.Itoa(n), of("new")}
			}
			return answer{"new", of("new")}
		}, answer{"new", of("new")}},
		"opaque etags": {func(int) answer { return answer{"new", "opaque-1"} }, answer{"new", "opaque-1"}},
		"opaque etags, replaced between": {func(n int) answer {
			if n == 0 {
				return answer{"old", "opaque-2"}
			}
			return answer{"new", "opaque-2"}
		}, answer{"new", "opaque-2"}},
		"never twice the same": {func(n int) answer { return answer{strconv.Itoa(n), "opaque-3"} }, answer{}},
	} {
		t.Run(name, func(t *testing.T) {
			n := 0
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				a := tc.answer(n)
				n++
				w.Header().Set("ETag", strconv.Quote(a.etag))
				w.Header().Set("Last-Modified", time.Unix(1, 0).UTC().Format(http.TimeFormat))
				_, _ = w.Write([]byte(a.data))
			}))
			defer srv.Close()
			store := open(t, s3.Options{Endpoint: srv.URL, Bucket: "bucket", AccessKey: "a", SecretKey: "b"})
			data, etag, err := store.Load(t.Context(), "head")
			if got := (answer{string(data), etag}); got != tc.want || (err != nil) != (tc.want == answer{}) {
				t.Errorf("%+v, %v; want %+v", got, err, tc.want)
			}
			if err != nil && !errors.Is(err, objstore.ErrUnavailable) {
				t.Errorf("%v, want that it is asked again", err)
			}
		})
	}
}
