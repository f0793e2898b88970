package builder

import (
	"context"
	"crypto/x509"
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
	"github.com/ratchetos/ratchet/image/keys"
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

	// SecurityVersion is raised, at most to 63, by a release that closes a hole: boxes that have run it
	// for good refuse what has a lower one.
	SecurityVersion uint

	// QuarantineNIC is the place ("pci:0000:00:03.0") of the one NIC that an isolated box keeps, and that the
	// recovery console may fetch an update over; zero: none.
	QuarantineNIC string

	Release bool // not a development image: no recovery key inside, no self-provisioning
	// Keys sign the image; zero: the development keys of KeyDir, which are made on first use.
	Keys   keys.Ring
	KeyDir string // zero: keys.DevelopmentDir
	// Fault makes a development image fail on purpose, for tests of updates: boot/fault.go lists the ways.
	Fault string
	// Bundle has an update packed beside the image; nil for none.
	Bundle *BundleOptions
	// DevelopmentKeys lets development keys sign a release: a rehearsal, and said so.
	DevelopmentKeys bool
	CacheDir        string // zero: $XDG_CACHE_HOME/ratchet

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
	if o.Release && o.Fault != "" {
		return errors.New("build image: a release has no fault")
	}
	if o.Release && !o.DevelopmentKeys && (o.Keys.Dir == "" || o.Keys.Development()) {
		return errors.New("build image: a release is not signed with development keys; make keys of your own with " +
			"`image keys init DIR` and name them with --keys DIR (or rehearse with --development-keys)")
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

// unlock finds or makes the keys, and the recovery key of a development image.
func (o *Options) unlock(p *progress) (cert *x509.Certificate, recovery string, err error) {
	if o.Keys.Dir == "" {
		made, uris, detach := []keys.Role(nil), o.Keys.URIs, o.Keys.Detach
		if o.Keys, made, err = keys.Development(o.KeyDir); err != nil {
			return nil, "", err
		}
		o.Keys.URIs, o.Keys.Detach = uris, detach
		if len(made) > 0 {
			p.note("made development keys in %s: %v", o.Keys.Dir, made)
		}
	}
	if o.Release && o.Keys.Development() {
		p.note("WARNING: signed with DEVELOPMENT KEYS, which nobody guards: not for anything but a rehearsal")
	}
	if cert, err = o.Keys.Certificate(keys.SecureBoot); err != nil || o.Release {
		return cert, "", err
	}
	recovery, err = o.Keys.RecoveryKey()
	return cert, recovery, err
}
