package s3server

import (
	"bytes"
	"context"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
)

func start(t *testing.T, o Options) *Server {
	t.Helper()
	// The first call on a machine builds the server.
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
	t.Cleanup(cancel)
	s, err := Start(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	return s
}

func client(t *testing.T, s *Server) *minio.Client {
	t.Helper()
	c, err := minio.New(s.Address, &minio.Options{
		Creds: credentials.NewStaticV4(s.AccessKey, s.SecretKey, ""), Region: s.Region, MaxRetries: 1,
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func put(c *minio.Client, s *Server, key, body string, match func(*minio.PutObjectOptions)) (string, error) {
	o := minio.PutObjectOptions{}
	if match != nil {
		match(&o)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	info, err := c.PutObject(ctx, s.Bucket, key, strings.NewReader(body), int64(len(body)), o)
	return info.ETag, err
}

func get(t *testing.T, c *minio.Client, s *Server, key string, o minio.GetObjectOptions) string {
	t.Helper()
	obj, err := c.GetObject(t.Context(), s.Bucket, key, o)
	if err != nil {
		t.Fatal(err)
	}
	defer obj.Close()
	b, err := io.ReadAll(obj)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func absent(o *minio.PutObjectOptions) { o.SetMatchETagExcept("*") }
func matching(etag string) func(*minio.PutObjectOptions) {
	return func(o *minio.PutObjectOptions) { o.SetMatchETag(etag) }
}

func wantCode(t *testing.T, err error, code int) {
	t.Helper()
	if got := minio.ToErrorResponse(err).StatusCode; err == nil || got != code {
		t.Fatalf("got error %v (status %d), want status %d", err, got, code)
	}
}

// TestConditionalPut holds the server to the part of S3 the gateway's head object depends on.
func TestConditionalPut(t *testing.T) {
	s := start(t, Options{Dir: t.TempDir()})
	c := client(t, s)
	first, err := put(c, s, "vol/head", "epoch 1", absent)
	if err != nil {
		t.Fatal(err)
	}
	_, err = put(c, s, "vol/head", "epoch x", absent)
	wantCode(t, err, 412)
	second, err := put(c, s, "vol/head", "epoch 2", matching(first))
	if err != nil {
		t.Fatal(err)
	}
	if second == first {
		t.Fatalf("etag %s did not change with the content", first)
	}
	_, err = put(c, s, "vol/head", "epoch y", matching(first))
	wantCode(t, err, 412)
	if got := get(t, c, s, "vol/head", minio.GetObjectOptions{}); got != "epoch 2" {
		t.Fatalf("got %q, want the last write whose condition held", got)
	}
	part := minio.GetObjectOptions{}
	if err := part.SetRange(2, 4); err != nil {
		t.Fatal(err)
	}
	if got := get(t, c, s, "vol/head", part); got != "och" {
		t.Fatalf("range 2-4: got %q", got)
	}
}

// TestCreateRace: of many writers that create one key, exactly one may win.
func TestCreateRace(t *testing.T) {
	s := start(t, Options{Dir: t.TempDir()})
	c := client(t, s)
	var wg sync.WaitGroup
	won := make(chan string, 8)
	for i := range cap(won) {
		wg.Go(func() {
			body := string(rune('a' + i))
			if _, err := put(c, s, "race", body, absent); err == nil {
				won <- body
			}
		})
	}
	wg.Wait()
	close(won)
	winner := <-won
	if second, more := <-won; winner == "" || more {
		t.Fatalf("winners %q and %q, want exactly one", winner, second)
	}
	if got := get(t, c, s, "race", minio.GetObjectOptions{}); got != winner {
		t.Fatalf("stored %q, but %q was told it won", got, winner)
	}
}

// TestOutage: a server that went away and came back on the same address still has the objects.
func TestOutage(t *testing.T) {
	o := Options{Dir: t.TempDir()}
	s := start(t, o)
	if _, err := put(client(t, s), s, "k", "kept", nil); err != nil {
		t.Fatal(err)
	}
	s.Stop()
	if conn, err := net.DialTimeout("tcp", s.Address, time.Second); err == nil {
		conn.Close()
		t.Fatal("the address still accepts connections after Stop")
	}
	o.Address, o.AccessKey, o.SecretKey = s.Address, s.AccessKey, s.SecretKey
	again := start(t, o)
	if got := get(t, client(t, again), again, "k", minio.GetObjectOptions{}); got != "kept" {
		t.Fatalf("after the outage: got %q", got)
	}
}

func TestContextEndsServer(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	s, err := Start(ctx, Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	select {
	case <-s.done:
	case <-time.After(10 * time.Second):
		t.Fatal("the server outlived its context by ten seconds")
	}
}

func TestStartErrors(t *testing.T) {
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	for name, o := range map[string]Options{
		"no folder":    {},
		"port in use":  {Dir: t.TempDir(), Address: busy.Addr().String()},
		"bad address":  {Dir: t.TempDir(), Address: "nowhere"},
		"key too lone": {Dir: t.TempDir(), AccessKey: "only"},
	} {
		t.Run(name, func(t *testing.T) {
			if s, err := Start(t.Context(), o); err == nil {
				s.Stop()
				t.Fatal("started")
			}
		})
	}
}

func TestAnnouncement(t *testing.T) {
	for name, writes := range map[string][]string{
		"one":    {"listening 1.2.3.4:5\n"},
		"pieces": {"hello\nlist", "ening 1.2.3.4", ":5", "\nmore\n"},
	} {
		t.Run(name, func(t *testing.T) {
			ready := make(chan string, 1)
			a := &announcement{ready: ready}
			for _, w := range writes {
				if n, err := io.Copy(a, bytes.NewReader([]byte(w))); err != nil || int(n) != len(w) {
					t.Fatal(n, err)
				}
			}
			select {
			case got := <-ready:
				if got != "1.2.3.4:5" {
					t.Fatalf("got %q", got)
				}
			default:
				t.Fatal("nothing announced")
			}
		})
	}
}
