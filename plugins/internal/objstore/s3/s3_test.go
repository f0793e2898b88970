package s3_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ratchetos/ratchet/plugins/internal/objstore"
	"github.com/ratchetos/ratchet/plugins/internal/objstore/objstoretest"
	"github.com/ratchetos/ratchet/plugins/internal/objstore/s3"
	"github.com/ratchetos/ratchet/qemu/s3server"
)

func TestConformance(t *testing.T) {
	srv, err := s3server.Start(context.Background(), s3server.Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { srv.Stop() })
	var places atomic.Int32
	objstoretest.Run(t, func(t *testing.T) func(*testing.T) objstore.Store {
		o := s3.Options{
			Endpoint: srv.Endpoint, Region: srv.Region, Bucket: srv.Bucket,
			AccessKey: srv.AccessKey, SecretKey: srv.SecretKey,
			Prefix: fmt.Sprintf("volumes/test-%d", places.Add(1)),
		}
		return func(t *testing.T) objstore.Store { return open(t, o) }
	})

	good := s3.Options{Endpoint: srv.Endpoint, Bucket: srv.Bucket, AccessKey: srv.AccessKey, SecretKey: srv.SecretKey}
	for name, change := range map[string]func(*s3.Options){
		"wrong secret":   func(o *s3.Options) { o.SecretKey = "wrong" },
		"unknown access": func(o *s3.Options) { o.AccessKey = "nobody" },
		"no such bucket": func(o *s3.Options) { o.Bucket = "no-such-bucket" },
	} {
		t.Run(name, func(t *testing.T) {
			o := good
			change(&o)
			err := open(t, o).Probe(t.Context())
			if err == nil || errors.Is(err, objstore.ErrUnavailable) {
				t.Errorf("probe: %v, want an error that retrying does not cure", err)
			}
		})
	}
}

func open(t *testing.T, o s3.Options) objstore.Store {
	t.Helper()
	s, err := s3.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestServiceThatFails checks which failures count as transient, and that each is tried once.
func TestServiceThatFails(t *testing.T) {
	for _, tc := range []struct {
		status    int
		code      string
		transient bool
		hint      string // of what to do, in the message, or the service's own words
	}{
		{500, "InternalError", true, ""},
		{503, "SlowDown", true, ""},
		{429, "TooManyRequests", true, ""},
		{409, "ConditionalRequestConflict", true, ""},
		{403, "AccessDenied", false, "give it read, write"},
		{403, "RequestTimeTooSkewed", false, "check time synchronisation"},
		{403, "SignatureDoesNotMatch", false, "correct it"},
		{403, "InvalidAccessKeyId", false, "correct it"},
		{404, "NoSuchBucket", false, "create it"},
		{400, "RequestTimeout", true, ""},
		{400, "BadDigest", true, ""},
		{403, "QuotaExceeded", false, "raise it"},
		{400, "XMinioAdminBucketQuotaExceeded", false, "raise it"},
		{400, "MalformedPolicy", false, "because"},
		{501, "NotImplemented", false, ""},
	} {
		t.Run(fmt.Sprint(tc.status, tc.code), func(t *testing.T) {
			var calls atomic.Int32
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				calls.Add(1)
				w.WriteHeader(tc.status)
				fmt.Fprintf(w, "<Error><Code>%s</Code><Message>because</Message></Error>", tc.code)
			}))
			defer srv.Close()
			s := open(t, s3.Options{Endpoint: srv.URL, Bucket: "bucket"})
			defer s.Close()
			_, err := s.PutIfAbsent(t.Context(), "k", []byte("x"))
			if errors.Is(err, objstore.ErrUnavailable) != tc.transient || err == nil {
				t.Errorf("put: %v, transient should be %v", err, tc.transient)
			}
			if n := calls.Load(); n != 1 {
				t.Errorf("%d requests for one call", n)
			}
			if errors.Is(err, objstore.ErrRefused) != (tc.hint != "") {
				t.Errorf("put: %v; what somebody can put right is a refusal", err)
			}
			if tc.hint != "" && !strings.Contains(fmt.Sprint(err), tc.hint) {
				t.Errorf("put: %v; it should say %q", err, tc.hint)
			}
		})
	}
}

// service answers requests in the place of one.
type service func(*http.Request) (status int, body string)

func (f service) RoundTrip(r *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	status, body := f(r)
	w.WriteHeader(status)
	if r.Method != http.MethodHead {
		fmt.Fprint(w, body)
	}
	return w.Result(), nil
}

// TestProxyInFront: what a proxy answers in the place of the service says nothing about objects.
func TestProxyInFront(t *testing.T) {
	data := map[string]func(context.Context, objstore.Store) error{
		"put if absent": func(ctx context.Context, s objstore.Store) error {
			_, err := s.PutIfAbsent(ctx, "k", []byte("x"))
			return err
		},
		"put if match": func(ctx context.Context, s objstore.Store) error {
			_, err := s.PutIfMatch(ctx, "k", []byte("x"), "e")
			return err
		},
	}
	data["get"] = func(ctx context.Context, s objstore.Store) error { _, err := s.Get(ctx, "k", 0, 1); return err }
	data["load"] = func(ctx context.Context, s objstore.Store) error { _, _, err := s.Load(ctx, "k"); return err }
	all := map[string]func(context.Context, objstore.Store) error{
		"delete": func(ctx context.Context, s objstore.Store) error { return s.Delete(ctx, "k") },
		"list":   func(ctx context.Context, s objstore.Store) error { return s.List(ctx, "", "", nil) },
	}
	maps.Copy(all, data)
	for _, tc := range []struct {
		name   string
		status int
		body   string
		calls  map[string]func(context.Context, objstore.Store) error
	}{
		{"ingress-nginx", 404, "default backend - 404", all},
		{"Traefik", 404, "404 page not found\n", all},
		{"a page that is XML", 404, "<html><body><h1>Not Found</h1></body></html>", all},
		{"nothing", 404, "", all},
		{"XML without a code", 404, "<Error/>", all},
		{"a wall", 403, "blocked", all},
		{"a page of maintenance", 200, "<html>Back soon.</html>", data},
	} {
		synctest.Test(t, func(t *testing.T) { // for the client library's pauses
			s := open(t, s3.Options{Endpoint: "http://host", Bucket: "bucket", Transport: service(func(*http.Request) (int, string) { return tc.status, tc.body })})
			for name, call := range tc.calls {
				if err := call(t.Context(), s); !errors.Is(err, objstore.ErrUnavailable) {
					t.Errorf("%s, %s: %v, want ErrUnavailable", tc.name, name, err)
				}
			}
		})
	}
}

// TestAnswerInChunks: a proxy may pass an object on without saying how long it is.
func TestAnswerInChunks(t *testing.T) {
	for _, size := range []int{0, 1, 100_000} {
		want := bytes.Repeat([]byte{7}, size)
		served := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("ETag", `"1"`)
			w.Header().Set("Last-Modified", "Mon, 23 Nov 2026 00:00:00 GMT")
			_ = http.NewResponseController(w).Flush() // before the length is known
			_, _ = w.Write(want)
		}))
		s := open(t, s3.Options{Endpoint: served.URL, Bucket: "bucket"})
		if got, err := s.Get(t.Context(), "k", 0, -1); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%d bytes of %d, %v", len(got), size, err)
		}
		served.Close()
	}
}

// TestAnswersWithoutReason are those that no proxy gives of its own, and that of HEAD, which has no body.
func TestAnswersWithoutReason(t *testing.T) {
	s := open(t, s3.Options{Endpoint: "http://host", Bucket: "bucket", Transport: service(func(r *http.Request) (int, string) {
		return map[string]int{http.MethodHead: 404, http.MethodPut: 412, http.MethodGet: 416}[r.Method], ""
	})})
	if _, err := s.Head(t.Context(), "k"); !errors.Is(err, objstore.ErrNotFound) {
		t.Errorf("head: %v", err)
	}
	if _, err := s.PutIfAbsent(t.Context(), "k", nil); !errors.Is(err, objstore.ErrExists) {
		t.Errorf("put if absent: %v", err)
	}
	if _, err := s.PutIfMatch(t.Context(), "k", nil, "e"); !errors.Is(err, objstore.ErrPrecondition) {
		t.Errorf("put if match: %v", err)
	}
	if p, err := s.Get(t.Context(), "k", 1, 1); len(p) != 0 || err != nil {
		t.Errorf("get behind the end: %q, %v", p, err)
	}
}

// TestPutIsOnePlainBody sees puts on the wire: a length, one hash over the whole body, no chunks.
func TestPutIsOnePlainBody(t *testing.T) {
	for _, n := range []int{0, 1, 200_000} {
		var seen string
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			body, err := io.ReadAll(r.Body)
			seen = fmt.Sprintf("length %d, transfer %q, content %q, hash %s, %v", r.ContentLength, r.TransferEncoding,
				r.Header.Get("Content-Encoding"), r.Header.Get("X-Amz-Content-Sha256"), err)
			w.Header().Set("ETag", fmt.Sprintf("%q", fmt.Sprint(len(body))))
		}))
		s := open(t, s3.Options{Endpoint: srv.URL, Bucket: "bucket", AccessKey: "key", SecretKey: "secret"})
		data := make([]byte, n)
		etag, err := s.PutIfAbsent(t.Context(), "k", data)
		if err != nil || etag != fmt.Sprint(n) {
			t.Errorf("%d bytes: etag %q, %v", n, etag, err)
		}
		want := fmt.Sprintf("length %d, transfer [], content \"\", hash %x, <nil>", n, sha256.Sum256(data))
		if seen != want {
			t.Errorf("%d bytes:\n got %s\nwant %s", n, seen, want)
		}
		s.Close()
		srv.Close()
	}
}

func TestServiceThatIsGoneOrSilent(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	silent := open(t, s3.Options{Endpoint: "http://" + l.Addr().String(), Bucket: "bucket", Timeout: 50 * time.Millisecond})
	defer silent.Close()
	if _, err := silent.Get(t.Context(), "k", 0, -1); !errors.Is(err, objstore.ErrUnavailable) {
		t.Errorf("silent service: %v", err)
	}
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := free.Addr().String()
	free.Close()
	gone := open(t, s3.Options{Endpoint: "http://" + addr, Bucket: "bucket"})
	defer gone.Close()
	if err := gone.Probe(t.Context()); !errors.Is(err, objstore.ErrUnavailable) {
		t.Errorf("service that is gone: %v", err)
	}
}

// TestServiceWithoutConditions are services as there are some: one takes every put, one says
// that it knows no conditions.
func TestServiceWithoutConditions(t *testing.T) {
	for name, status := range map[string]int{"ignores them": http.StatusOK, "refuses them": http.StatusNotImplemented} {
		t.Run(name, func(t *testing.T) {
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("ETag", `"abc"`)
				switch r.Method {
				case http.MethodDelete:
					w.WriteHeader(http.StatusNoContent)
				case http.MethodPut:
					w.WriteHeader(status)
				}
			}))
			defer srv.Close()
			s := open(t, s3.Options{Endpoint: srv.URL, Bucket: "bucket"})
			defer s.Close()
			if err := s.Probe(t.Context()); !errors.Is(err, objstore.ErrNoConditional) {
				t.Errorf("probe: %v, want ErrNoConditional", err)
			}
		})
	}
}

func TestOptions(t *testing.T) {
	for _, o := range []s3.Options{
		{},
		{Endpoint: "http://host", Bucket: "b"},
		{Endpoint: "host:9000", Bucket: "bucket"},
		{Endpoint: "ftp://host", Bucket: "bucket"},
		{Endpoint: "http://host/path", Bucket: "bucket"},
		{Endpoint: "http://u:p@host", Bucket: "bucket"},
		{Endpoint: "http://host", Bucket: "bucket", Prefix: "../x"},
	} {
		if _, err := s3.Open(o); err == nil {
			t.Errorf("Open(%+v) succeeded", o)
		}
	}
}
