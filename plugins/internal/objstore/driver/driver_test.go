package driver_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ratchetos/ratchet/plugins/internal/objstore/driver"
)

func TestCheck(t *testing.T) {
	for _, tc := range []struct {
		cfg  driver.Config
		want string // fields in order
	}{
		{driver.Config{Driver: "dir", Path: "/srv/objects"}, ""},
		{driver.Config{Driver: "dir", Root: os.Stdin, Prefix: "a/b"}, ""},
		{driver.Config{Driver: "s3", Endpoint: "http://h:1", Bucket: "bucket"}, ""},
		{driver.Config{Driver: "s3", Endpoint: "http://h:1", Bucket: "b"}, "bucket"},
		{driver.Config{Driver: "s3", Endpoint: "http://h:1", Bucket: "backups/site1"}, "bucket"},
		{driver.Config{Driver: "s3", Endpoint: "http://h:1/bucket", Bucket: "bucket"}, "endpoint"},
		{driver.Config{Driver: "s3", Endpoint: "http://user@h:1", Bucket: "bucket"}, "endpoint"},
		{driver.Config{Driver: "s3", Endpoint: "http://h h:1", Bucket: "bucket"}, "endpoint"},
		{driver.Config{Driver: "s3", Endpoint: "http://-h-:1", Bucket: "bucket"}, "endpoint"},
		{driver.Config{}, "driver"},
		{driver.Config{Driver: "tape"}, "driver"},
		{driver.Config{Driver: "dir"}, "path"},
		{driver.Config{Driver: "dir", Path: "relative", Bucket: "b", Prefix: ".."}, "path bucket prefix"},
		{driver.Config{Driver: "s3", Path: "/x", AccessKey: "a", Endpoint: "h:9000"}, "bucket access_key endpoint path"},
	} {
		var got []string
		for _, p := range driver.Check(tc.cfg) {
			got = append(got, p.Field)
			if p.Message == "" {
				t.Errorf("%+v: %s without a message", tc.cfg, p.Field)
			}
		}
		if s := strings.Join(got, " "); s != tc.want {
			t.Errorf("%+v: problems with %q, want %q", tc.cfg, s, tc.want)
		}
	}
}

func TestOpen(t *testing.T) {
	file, err := os.Create(filepath.Join(t.TempDir(), "file"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for _, cfg := range []driver.Config{
		{Driver: "dir"},
		{Driver: "dir", Path: file.Name()},
		{Driver: "dir", Root: file},
		{Driver: "s3", Endpoint: "http://h:1", Bucket: "b"},
	} {
		if s, err := driver.Open(t.Context(), cfg); err == nil || s != nil {
			t.Errorf("%+v: %v, %v; want an error and no store", cfg, s, err)
		}
	}
	s, err := driver.Open(t.Context(), driver.Config{Driver: "dir", Path: t.TempDir(), Prefix: "volumes/x/"})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.Probe(t.Context()); err != nil {
		t.Error(err)
	}
}
