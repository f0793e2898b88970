// Package driver opens an object store from its configuration. It is apart from package
// objstore so that code which only uses a Store does not link every driver.
package driver

import (
	"context"
	"fmt"
	"os"

	"github.com/ratchetos/ratchet/plugins/internal/objstore"
)

// Config names a store. The json tags are those of the `store` section of a volume.
type Config struct {
	// Driver is "dir" or "s3".
	Driver string `json:"driver"`
	// Path is the directory of driver dir.
	Path string `json:"path,omitempty"`

	// Endpoint is the URL of the S3 service: "https://host:port". Plain http is accepted.
	Endpoint  string `json:"endpoint,omitempty"`
	Region    string `json:"region,omitempty"`
	Bucket    string `json:"bucket,omitempty"`
	AccessKey string `json:"access_key,omitempty"`
	SecretKey string `json:"secret_key,omitempty"`
	// Prefix is put before every key; two volumes may share a bucket under different ones.
	Prefix string `json:"prefix,omitempty"`

	// Root, when set, is the directory of driver dir as core handed it out; it takes the
	// place of Path. The store uses it but does not close it.
	Root *os.File `json:"-"`
}

// Problem is one thing wrong with a Config, at the json name of its field.
type Problem struct {
	Field, Message string
}

// Open returns the store of cfg. It does not touch the network; call Probe before trusting it.
func Open(ctx context.Context, cfg Config) (objstore.Store, error) {
	if ps := Check(cfg); len(ps) > 0 {
		return nil, fmt.Errorf("open store: %s: %s", ps[0].Field, ps[0].Message)
	}
	return nil, fmt.Errorf("open store: no driver %q", cfg.Driver)
}

// Check reports everything that is wrong with cfg as it stands, without I/O.
func Check(cfg Config) []Problem {
	return nil
}
