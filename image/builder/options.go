package builder

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/ratchetos/ratchet/configs"
	"github.com/ratchetos/ratchet/hw/catalogue"
	"github.com/ratchetos/ratchet/image/initramfs"
	"github.com/ratchetos/ratchet/image/kernel"
	"github.com/ratchetos/ratchet/image/sign"
)

// Options of a build. Flavour and Out are needed, the rest has useful zero values.
type Options struct {
	Flavour string // "cloud" or "full"
	Out     string // folder for the files of the build

	Source  Source         // zero: found from the working directory
	Version string         // of the image; zero: what git describes
	Binary  string         // a compiled appliance to use in place of compiling Source
	Kernel  *kernel.Kernel // zero: fetched by the lock
	Modules []string       // zero: what the hardware catalogue asks for
	Stub    string         // path; zero: the lock's

	Release  bool   // not a development image: no recovery key inside, no self-provisioning
	Key      string // PEM files to sign with; zero: the development key
	Cert     string
	KeyDir   string // of the development keys; zero: sign.DevelopmentDir
	CacheDir string // zero: $XDG_CACHE_HOME/ratchet

	Config     string // default configuration baked into the image, a YAML file; zero: an empty one
	DiskConfig string // first configuration written to the disk's LEDGER, a YAML file
	DiskSize   int64  // zero: disk.DefaultSize
	Level      initramfs.Level

	Progress io.Writer // one line a step; nil for silence
}

// complete fills in what the caller left out and refuses contradictions before any work is done.
func (o *Options) complete(ctx context.Context) error {
	if o.Out == "" {
		return errors.New("build image: no output folder")
	}
	if (o.Key == "") != (o.Cert == "") {
		return errors.New("build image: a key needs its certificate and the other way round (--key and --cert)")
	}
	if o.Release && o.Key == "" {
		return errors.New("build image: a release is not signed with the development key; give --key and --cert")
	}
	lock, err := kernel.Committed()
	if err != nil {
		return err
	}
	if _, err := lock.Pin(o.Flavour); err != nil {
		return fmt.Errorf("build image: %w", err)
	}
	if o.Level == 0 {
		o.Level = initramfs.DefaultLevel
	}
	if o.CacheDir == "" {
		dir, err := os.UserCacheDir()
		if err != nil {
			return fmt.Errorf("find cache folder: %w", err)
		}
		o.CacheDir = filepath.Join(dir, "ratchet")
	}
	if o.KeyDir == "" {
		dir, err := sign.DevelopmentDir()
		if err != nil {
			return err
		}
		o.KeyDir = dir
	}
	if o.Source == (Source{}) {
		s, err := FindSource(ctx)
		if err != nil {
			return err
		}
		o.Source = s
	}
	if o.Version != "" {
		o.Source.Version = o.Version
	}
	// It becomes a linker argument and a line of os-release.
	if strings.ContainsAny(o.Source.Version, " \t\n\"'\\") {
		return fmt.Errorf("build image: version %q has blanks or quotes in it", o.Source.Version)
	}
	if o.Stub == "" {
		o.Stub = lock.Stub.Path
		if _, err := os.Stat(o.Stub); err != nil {
			return fmt.Errorf("build image: no systemd stub at %s; run: sudo apt-get install %s", o.Stub, lock.Stub.Package)
		}
	}
	if o.Modules == nil {
		c, err := catalogue.Load(configs.Hardware)
		if err != nil {
			return fmt.Errorf("read hardware catalogue: %w", err)
		}
		o.Modules = c.Modules(o.Flavour)
	}
	// The compiler runs in the source tree, wherever we are.
	out, err := filepath.Abs(o.Out)
	if err != nil {
		return fmt.Errorf("find output folder: %w", err)
	}
	o.Out = out
	if err := os.MkdirAll(o.Out, 0o755); err != nil {
		return fmt.Errorf("make output folder: %w", err)
	}
	return nil
}

// identity loads or makes the signing key, and the recovery key of a development image.
func (o Options) identity(p *progress) (id sign.Identity, recovery string, err error) {
	if o.Key != "" {
		id, err = sign.Load(o.Key, o.Cert)
	} else {
		var created bool
		if id, created, err = sign.Development(o.KeyDir); created {
			p.note("made a development Secure Boot key in %s", o.KeyDir)
		}
	}
	if err != nil || o.Release {
		return id, "", err
	}
	recovery, err = sign.DevelopmentRecoveryKey(o.KeyDir)
	return id, recovery, err
}
