// Package driver opens an object store from its configuration. It is apart from package
// objstore so that code which only uses a Store does not link every driver.
package driver

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/ratchetos/ratchet/plugins/internal/objstore"
	"github.com/ratchetos/ratchet/plugins/internal/objstore/dir"
	"github.com/ratchetos/ratchet/plugins/internal/objstore/s3"
)

// Config names a store. The json tags are those of the `store` section of a volume.
type Config struct {
	Driver string `json:"driver" jsonschema:"description=s3 for a service, dir for a directory of this box or workstation"`
	Path   string `json:"path,omitempty" jsonschema:"description=dir: absolute path of the directory"`

	Endpoint  string `json:"endpoint,omitempty" jsonschema:"description=s3: URL of the service, as https://host:port"`
	Region    string `json:"region,omitempty" jsonschema:"description=s3: region, as us-east-1"`
	Bucket    string `json:"bucket,omitempty" jsonschema:"description=s3: bucket; it must exist"`
	AccessKey string `json:"access_key,omitempty" jsonschema:"description=s3: access key"`
	SecretKey string `json:"secret_key,omitempty" config:"secret" jsonschema:"description=s3: secret key"`
	// Prefix is put before every key; two volumes may share a bucket under different ones.
	Prefix string `json:"prefix,omitempty" jsonschema:"description=put before every key, so that several boxes can share a bucket"`

	// Root, when set, is the directory of driver dir as core handed it out; it takes the
	// place of Path. The store uses it but does not close it.
	Root *os.File `json:"-"`
}

// Problem is one thing wrong with a Config, at the json name of its field.
type Problem struct {
	Field, Message string
}

// Open returns the store of cfg. It does not touch the network; call Probe before trusting it.
func Open(_ context.Context, cfg Config) (objstore.Store, error) {
	if ps := Check(cfg); len(ps) > 0 {
		return nil, fmt.Errorf("open store: %s: %s", ps[0].Field, ps[0].Message)
	}
	sub := strings.Trim(cfg.Prefix, "/")
	switch {
	case cfg.Driver == "s3":
		return opened(s3.Open(s3.Options{
			Endpoint: cfg.Endpoint, Region: cfg.Region, Bucket: cfg.Bucket, Prefix: cfg.Prefix,
			AccessKey: cfg.AccessKey, SecretKey: cfg.SecretKey,
		}))
	case cfg.Root != nil:
		return opened(dir.OpenFile(cfg.Root, sub))
	default:
		return opened(dir.Open(filepath.Join(cfg.Path, sub)))
	}
}

// opened keeps a driver's nil out of the interface, where it would not be nil.
func opened[S objstore.Store](s S, err error) (objstore.Store, error) {
	if err != nil {
		return nil, err
	}
	return s, nil
}

// Check reports everything that is wrong with cfg as it stands, without I/O.
func Check(cfg Config) []Problem {
	var list []Problem
	add := func(field, format string, args ...any) {
		list = append(list, Problem{field, fmt.Sprintf(format, args...)})
	}
	// need and refuse keep the two drivers' fields apart, so that one which would be ignored
	// is not taken for one that works.
	need := func(field, value, why string) {
		if value == "" {
			add(field, "is missing: %s", why)
		}
	}
	refuse := func(field, value, driver string) {
		if value != "" {
			add(field, "belongs to driver %q; remove it", driver)
		}
	}
	switch cfg.Driver {
	case "dir":
		if cfg.Root == nil {
			need("path", cfg.Path, "name the directory that keeps the objects")
		}
		if cfg.Path != "" && !filepath.IsAbs(cfg.Path) {
			add("path", "%q is not absolute", cfg.Path)
		}
		refuse("endpoint", cfg.Endpoint, "s3")
		refuse("region", cfg.Region, "s3")
		refuse("bucket", cfg.Bucket, "s3")
		refuse("access_key", cfg.AccessKey, "s3")
		refuse("secret_key", cfg.SecretKey, "s3")
	case "s3":
		need("endpoint", cfg.Endpoint, "give the URL of the service, as https://host:port")
		need("bucket", cfg.Bucket, "name a bucket that exists")
		if (cfg.AccessKey == "") != (cfg.SecretKey == "") {
			add("access_key", "access_key and secret_key go together")
		}
		if cfg.Endpoint != "" {
			if err := s3.CheckEndpoint(cfg.Endpoint); err != nil {
				add("endpoint", "%v", err)
			}
		}
		if cfg.Bucket != "" {
			if err := s3.CheckBucket(cfg.Bucket); err != nil {
				add("bucket", "%v", err)
			}
		}
		refuse("path", cfg.Path, "dir")
	case "":
		add("driver", "is missing: write dir or s3")
	default:
		add("driver", "%q is not known; write dir or s3", cfg.Driver)
	}
	if p := strings.Trim(cfg.Prefix, "/"); p != "" {
		if err := objstore.CheckKey(p); err != nil {
			add("prefix", "%v", err)
		}
	}
	return list
}
