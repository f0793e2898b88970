package builder

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/google/renameio/v2"

	"github.com/ratchetos/ratchet/boot"
	"github.com/ratchetos/ratchet/configs"
	"github.com/ratchetos/ratchet/hw/catalogue"
	"github.com/ratchetos/ratchet/image/disk"
	"github.com/ratchetos/ratchet/image/initramfs"
	"github.com/ratchetos/ratchet/image/kernel"
	"github.com/ratchetos/ratchet/image/sign"
	"github.com/ratchetos/ratchet/image/uki"
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

	Config     string // default configuration baked into the image, a YAML file
	DiskConfig string // first configuration written to the disk's LEDGER, a YAML file
	DiskSize   int64  // zero: disk.DefaultSize
	Level      initramfs.Level

	Progress io.Writer // one line a step; nil for silence
}

// cmdline is the kernel's command line.
//
// panic reboots into the other slot, strict IOMMU makes a revoked DMA mapping gone at once
// instead of after a batch, sig_enforce refuses unsigned modules even without Secure Boot.
const cmdline = "console=tty0 console=ttyS0,115200 quiet loglevel=4 panic=10 oops=panic " +
	"iommu.strict=1 iommu.passthrough=0 module.sig_enforce=1"

// caBundle is where Debian and Ubuntu keep CA certificates; an image built elsewhere has none.
const caBundle = "/etc/ssl/certs/ca-certificates.crt"

// Build makes the image and returns its manifest.
func (o Options) Build(ctx context.Context) (Manifest, error) {
	start := time.Now()
	p := &progress{w: o.Progress}
	if err := o.complete(ctx); err != nil {
		return Manifest{}, err
	}
	id, recovery, err := o.identity(p)
	if err != nil {
		return Manifest{}, err
	}
	in, err := o.gather(ctx, p)
	if err != nil {
		return Manifest{}, err
	}
	policy := boot.Policy{
		Version: o.Source.Version, Flavour: o.Flavour, TPM: "required",
		Development: !o.Release, RecoveryKey: recovery,
	}
	if in.system.Policy, err = initramfs.PolicyJSON(policy); err != nil {
		return Manifest{}, err
	}
	done := p.step("compress initramfs")
	initrd, raw, err := o.pack(in)
	if err != nil {
		return Manifest{}, err
	}
	done("%s of %s, zstd level %d", size(len(initrd)), size(raw), o.Level)

	done = p.step("unified kernel image")
	linux, err := os.ReadFile(in.kernel.Vmlinuz)
	if err != nil {
		return Manifest{}, fmt.Errorf("read kernel: %w", err)
	}
	unsigned, err := uki.Build(in.stub, uki.Content{
		OSRelease: osRelease(o.Source.Version, o.Flavour),
		Uname:     []byte(in.kernel.Release),
		Cmdline:   []byte(cmdline),
		Initrd:    initrd,
		Linux:     linux,
	})
	if err != nil {
		return Manifest{}, err
	}
	signed, err := sign.Image(unsigned, id)
	if err != nil {
		return Manifest{}, err
	}
	f, err := uki.Parse(signed)
	if err != nil {
		return Manifest{}, err
	}
	pcr, err := uki.PCR11(f)
	if err != nil {
		return Manifest{}, err
	}
	stub, err := uki.StubVersion(f)
	if err != nil {
		return Manifest{}, err
	}
	done("%s, signed by %q", size(len(signed)), id.Cert.Subject.CommonName)

	files := map[string][]byte{
		SignedFile: signed, UnsignedFile: unsigned,
		KernelFile: linux, InitrdFile: initrd, CmdlineFile: []byte(cmdline + "\n"),
	}
	certSum := sha256.Sum256(id.Cert.Raw)
	m := Manifest{
		Version: o.Source.Version, Flavour: o.Flavour, Development: !o.Release,
		Kernel: KernelRecord{
			Package: in.kernel.Package, Version: in.kernel.Version, Release: in.kernel.Release,
			SHA256: in.kernel.SHA256, Locked: in.kernel.Locked, Warning: in.kernel.Warning,
		},
		Stub:        fmt.Sprintf("systemd %d", stub),
		PCR11:       PCR{SHA256: hex.EncodeToString(pcr[:])},
		Certificate: hex.EncodeToString(certSum[:]),
		Sizes:       Sizes{UKI: len(signed), Binary: len(in.system.Init), Initramfs: len(initrd), InitramfsRaw: raw},
		SHA256:      make(map[string]string),
		Level:       int(o.Level),
		Missing:     in.closure.Missing,
	}
	for _, mod := range in.closure.Modules {
		if !mod.Builtin {
			m.Modules = append(m.Modules, mod.Name)
		}
	}
	if err := o.store(p, files, &m); err != nil {
		return Manifest{}, err
	}
	m.Seconds = time.Since(start).Seconds()
	return m, m.write(filepath.Join(o.Out, ManifestFile))
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

// inputs are what an image is made of.
type inputs struct {
	stub    []byte
	kernel  *kernel.Kernel
	closure kernel.Closure
	system  initramfs.SystemFiles
}

// gather compiles the binary while the kernel is fetched; on a cold cache both take their time.
func (o Options) gather(ctx context.Context, p *progress) (*inputs, error) {
	in := &inputs{kernel: o.Kernel}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		done := p.step("kernel")
		if in.kernel == nil {
			k, err := kernel.Options{Cache: filepath.Join(o.CacheDir, "kernel"), Log: slog.New(p.handler())}.Fetch(ctx, o.Flavour)
			if err != nil {
				return err
			}
			in.kernel = k
		}
		c, err := in.kernel.Closure(o.Modules)
		if err != nil {
			return err
		}
		in.closure = c
		done("%s %s, %d modules", in.kernel.Package, in.kernel.Version, len(c.Modules))
		if len(c.Missing) > 0 {
			p.note("warning: kernel %s has no module %v", in.kernel.Release, c.Missing)
		}
		return nil
	})
	g.Go(func() error {
		path := o.Binary
		if path == "" {
			done := p.step("compile appliance")
			path = filepath.Join(o.Out, ApplianceFile)
			if err := o.Source.Compile(ctx, path); err != nil {
				return err
			}
			defer func() { done("%s, version %s", size(len(in.system.Init)), o.Source.Version) }()
		}
		var err error
		in.system.Init, err = os.ReadFile(path)
		return err
	})
	if err := g.Wait(); err != nil {
		return nil, err
	}
	var err error
	if in.stub, err = os.ReadFile(o.Stub); err != nil {
		return nil, fmt.Errorf("read stub: %w", err)
	}
	if o.Config != "" {
		if in.system.Appliance, err = os.ReadFile(o.Config); err != nil {
			return nil, fmt.Errorf("read configuration: %w", err)
		}
	}
	in.system.CA, err = os.ReadFile(caBundle)
	if errors.Is(err, os.ErrNotExist) {
		p.note("warning: no CA certificates in the image: %s is not there (apt install ca-certificates)", caBundle)
		err = nil
	}
	return in, err
}

// pack makes the initramfs: both archives, compressed side by side.
func (o Options) pack(in *inputs) (initrd []byte, raw int, err error) {
	modules, err := initramfs.Modules(in.closure)
	if err != nil {
		return nil, 0, err
	}
	system, err := initramfs.System(in.system)
	if err != nil {
		return nil, 0, err
	}
	cache := initramfs.Cache{Dir: filepath.Join(o.CacheDir, "initramfs")}
	var frames [2][]byte
	var g errgroup.Group
	for i, archive := range [][]byte{modules, system} {
		g.Go(func() (err error) {
			frames[i], err = cache.Compress(archive, o.Level)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, 0, err
	}
	return append(frames[0], frames[1]...), len(modules) + len(system), nil
}

// store writes the files of the build and the disk, and records their digests.
func (o Options) store(p *progress, files map[string][]byte, m *Manifest) error {
	done := p.step("disk image")
	for name, data := range files {
		if err := renameio.WriteFile(filepath.Join(o.Out, name), data, 0o644); err != nil {
			return fmt.Errorf("write %s: %w", name, err)
		}
		h := sha256.Sum256(data)
		m.SHA256[name] = hex.EncodeToString(h[:])
	}
	var config []byte
	if o.DiskConfig != "" {
		var err error
		if config, err = os.ReadFile(o.DiskConfig); err != nil {
			return fmt.Errorf("read configuration for the disk: %w", err)
		}
	}
	d := disk.Options{UKI: files[SignedFile], Config: config, Size: o.DiskSize}
	if d.Size == 0 {
		d.Size = disk.DefaultSize
	}
	path := filepath.Join(o.Out, DiskFile)
	if err := disk.Write(path, d); err != nil {
		return err
	}
	done("%s, sparse", size(int(d.Size)))
	return nil
}

func osRelease(version, flavour string) []byte {
	return fmt.Appendf(nil, "ID=ratchet\nNAME=Ratchet\nVERSION_ID=%q\nVARIANT_ID=%s\nPRETTY_NAME=%q\n",
		version, flavour, "Ratchet "+version+" ("+flavour+")")
}
