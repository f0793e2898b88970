package update

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestUploadIsNoDownload: what was uploaded is not taken for the first part of a download that was cut off before it.
func TestUploadIsNoDownload(t *testing.T) {
	b := newBox(t)
	f := &flaky{data: b.bundle("2.0", 2, nil), etag: `"v1"`, limit: 300_000}
	again := 0
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if again++; again > 1 && again <= 1+tries {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		f.ServeHTTP(w, r)
	}))
	defer s.Close()
	if _, err := b.apply(Request{URL: s.URL}); !errors.Is(err, ErrSource) {
		t.Fatal(err)
	}
	must(t, errorOf(b.Stage(0, b.bundle("3.0", 3, nil)[:2_000_000])))
	f.limit = 0
	if _, err := b.apply(Request{URL: s.URL}); err != nil || b.version("B") != "2.0" {
		t.Errorf("slot B holds %s, %v", b.version("B"), err)
	}
}

// TestUploadDuringDownload: an upload does not wait for the end of a download, nor is it installed in its place.
func TestUploadDuringDownload(t *testing.T) {
	b := newBox(t)
	f := &flaky{data: b.bundle("2.0", 2, nil), etag: `"v1"`}
	other := b.bundle("3.0", 3, nil)
	var during error
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		during = b.upload(other)
		f.ServeHTTP(w, r)
	}))
	defer s.Close()
	if _, err := b.apply(Request{URL: s.URL}); err != nil || b.version("B") != "2.0" || !errors.Is(during, ErrBusy) {
		t.Errorf("slot B holds %s, %v; the upload: %v", b.version("B"), err, during)
	}
}

// TestDownloadIsKept: a download that was whole when its caller went away is not made again.
func TestDownloadIsKept(t *testing.T) {
	b := newBox(t)
	f := &flaky{data: b.bundle("2.0", 2, nil), etag: `"v1"`}
	s := httptest.NewServer(f)
	defer s.Close()
	ctx, cancel := context.WithCancel(t.Context())
	_, err := b.Apply(ctx, Request{URL: s.URL}, func(phase string, _, _ int64) {
		if phase == "verify" {
			cancel()
		}
	})
	if !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if _, err := b.apply(Request{URL: s.URL}); err != nil || b.version("B") != "2.0" {
		t.Errorf("slot B holds %s, %v", b.version("B"), err)
	}
	if want := []string{"", fmt.Sprintf("bytes=%d-", len(f.data))}; !slices.Equal(f.ranges, want) {
		t.Errorf("asked for %q, want %q", f.ranges, want)
	}
}

// TestDownloadWithoutRanges: a server that begins anew each time, and ends each time where it did, is given up.
func TestDownloadWithoutRanges(t *testing.T) {
	b := newBox(t)
	data, requests := b.bundle("2.0", 2, nil), 0
	ctx, cancel := context.WithCancel(t.Context())
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if requests++; requests > 10*tries {
			cancel()
		}
		w.Header().Set("ETag", `"v1"`)
		_, _ = w.Write(data[:200_000])
		panic(http.ErrAbortHandler)
	}))
	defer s.Close()
	_, err := b.Apply(ctx, Request{URL: s.URL}, func(string, int64, int64) {})
	if !errors.Is(err, ErrSource) || requests != tries {
		t.Errorf("%d requests, want %d: %v", requests, tries, err)
	}
}

// TestDownloadStalls: of a server that says nothing any more it is said, and what came stays.
func TestDownloadStalls(t *testing.T) {
	b := newBox(t)
	b.stall = 20 * time.Millisecond
	data := b.bundle("2.0", 2, nil)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"v1"`)
		w.Header().Set("Content-Length", strconv.Itoa(len(data)))
		_, _ = w.Write(data[:1000])
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}))
	defer s.Close()
	_, err := b.apply(Request{URL: s.URL})
	if !errors.Is(err, ErrSource) || !strings.Contains(err.Error(), "nothing came for 20ms") || strings.Contains(err.Error(), "canceled") {
		t.Error(err)
	}
}
