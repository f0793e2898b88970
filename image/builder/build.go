package builder

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"debug/buildinfo"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/google/renameio/v2"

	"github.com/ratchetos/ratchet/boot"
	"github.com/ratchetos/ratchet/boot/counter"
	"github.com/ratchetos/ratchet/image/disk"
	"github.com/ratchetos/ratchet/image/initramfs"
	"github.com/ratchetos/ratchet/image/kernel"
	"github.com/ratchetos/ratchet/image/keys"
	"github.com/ratchetos/ratchet/image/sbom"
	"github.com/ratchetos/ratchet/image/uki"
)

// cmdline is the kernel's command line.
//
// panic reboots into the other slot, strict IOMMU makes a revoked DMA mapping gone at once
// instead of after a batch, sig_enforce refuses unsigned modules even without Secure Boot.
//
// Without tracer_init_tracefs the kernel makes no files for its 2,700 trace points: nobody traces an appliance, and
// they take 10 MiB of it. Without init_zswap there is no second compressed swap, which nobody uses, and none of its buffers.
// Without slab_sysfs_init each of the kernel's 170 caches has no folder of files: a MiB, and /proc/slabinfo says the same.
const cmdline = "console=tty0 console=ttyS0,115200 quiet loglevel=4 panic=10 oops=panic " +
	"iommu.strict=1 iommu.passthrough=0 module.sig_enforce=1 transparent_hugepage=never " +
	"initcall_blacklist=tracer_init_tracefs,init_zswap,slab_sysfs_init no_timer_check"

// developmentWait is for how many seconds a development image offers its recovery console: enough for a
// person who expects it, and little for the tests that boot isolated machines all day.
const developmentWait = 3

// Build makes the image and returns its manifest.
func (o Options) Build(ctx context.Context) (Manifest, error) {
	start := time.Now()
	p := &progress{w: o.Progress}
	if err := o.complete(ctx); err != nil {
		return Manifest{}, err
	}
	cert, recovery, err := o.unlock(p)
	if err != nil {
		return Manifest{}, err
	}
	in, err := o.gather(ctx, p)
	if err != nil {
		return Manifest{}, err
	}
	policy := boot.Policy{
		Version: o.Source.Version, Flavour: o.Flavour, TPM: "required",
		Development: !o.Release, RecoveryKey: recovery, SecurityVersion: o.SecurityVersion,
		Fault: o.Fault, QuarantineNIC: o.QuarantineNIC,
	}
	if policy.Development {
		policy.RecoveryWait = developmentWait
	}
	if err := o.trust(&policy, &in.system); err != nil {
		return Manifest{}, err
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

	u, err := o.unify(p, in, initrd, cert.Subject.CommonName)
	if err != nil {
		return Manifest{}, err
	}
	files := map[string][]byte{
		SignedFile: u.signed, UnsignedFile: u.unsigned,
		KernelFile: u.linux, InitrdFile: initrd, CmdlineFile: []byte(cmdline + "\n"),
	}
	if o.Binary == "" {
		if files[SBOMFile], err = o.bill(in, u.stub); err != nil {
			return Manifest{}, err
		}
	} else {
		p.note("no SBOM: the binary was given and not compiled here")
	}
	if o.Bundle != nil {
		if files[BundleFile], err = Bundle(o.Keys, u.signed, files[SBOMFile], *o.Bundle); err != nil {
			return Manifest{}, err
		}
	}
	m := o.manifest(in, u, cert)
	m.Sizes = Sizes{UKI: len(u.signed), Binary: len(in.system.Init), Initramfs: len(initrd), InitramfsRaw: raw}
	if err := o.store(p, files, &m); err != nil {
		return Manifest{}, err
	}
	m.Seconds = time.Since(start).Seconds()
	return m, m.write(filepath.Join(o.Out, ManifestFile))
}

// unified is the UKI and what it was made of.
type unified struct {
	linux, unsigned, signed []byte
	pcr11                   counter.Digest
	stub                    string // version of systemd
}

// unify makes the UKI and signs it.
func (o Options) unify(p *progress, in *inputs, initrd []byte, signer string) (u unified, err error) {
	done := p.step("unified kernel image")
	if u.linux, err = os.ReadFile(in.kernel.Vmlinuz); err != nil {
		return u, fmt.Errorf("read kernel: %w", err)
	}
	u.unsigned, err = uki.Build(in.stub, uki.Content{
		OSRelease: osRelease(o.Source.Version, o.Flavour),
		Uname:     []byte(in.kernel.Release),
		Cmdline:   []byte(cmdline),
		Initrd:    initrd,
		Linux:     u.linux,
	})
	if err != nil {
		return u, err
	}
	u.signed, u.pcr11, err = o.sign(u.unsigned)
	if err != nil {
		// Who waits for a signature, or only builds to compare, wants to see what it is about.
		if w := (*keys.Wanted)(nil); errors.As(err, &w) {
			err = errors.Join(err, renameio.WriteFile(filepath.Join(o.Out, UnsignedFile), u.unsigned, 0o644))
		}
		return u, err
	}
	f, err := uki.Parse(u.signed)
	if err != nil {
		return u, err
	}
	if u.stub, err = uki.StubRelease(f); err != nil {
		return u, err
	}
	done("%s, signed by %q", size(len(u.signed)), signer)
	return u, nil
}

// manifest says what the image is made of. Sizes, digests and the time it took are not in it yet.
func (o Options) manifest(in *inputs, u unified, cert *x509.Certificate) Manifest {
	m := Manifest{
		Version: o.Source.Version, Flavour: o.Flavour, Development: !o.Release, SecurityVersion: o.SecurityVersion,
		Kernel: KernelRecord{
			Package: in.kernel.Package, Version: in.kernel.Version, Release: in.kernel.Release,
			SHA256: in.kernel.SHA256, Locked: in.kernel.Locked, Warning: in.kernel.Warning,
		},
		Stub:        "systemd " + u.stub,
		Host:        map[string]string{o.Stub: digest(in.stub)},
		PCR11:       PCR{SHA256: hex.EncodeToString(u.pcr11[:])},
		Certificate: digest(cert.Raw),
		SHA256:      make(map[string]string),
		Level:       int(o.Level),
		Missing:     in.closure.Missing,
	}
	if len(in.system.CA) > 0 {
		m.Host[caBundle] = digest(in.system.CA)
	}
	if info, err := buildinfo.Read(bytes.NewReader(in.system.Init)); err == nil {
		m.Go = info.GoVersion
	}
	for _, mod := range in.closure.Modules {
		if !mod.Builtin {
			m.Modules = append(m.Modules, mod.Name)
		}
	}
	return m
}

func digest(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// store writes the files of the build and the disk, and records their digests.
func (o Options) store(p *progress, files map[string][]byte, m *Manifest) error {
	done := p.step("disk image")
	for name, data := range files {
		if err := renameio.WriteFile(filepath.Join(o.Out, name), data, 0o644); err != nil {
			return fmt.Errorf("write %s: %w", name, err)
		}
		m.SHA256[name] = digest(data)
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

// bill lists what is inside.
func (o Options) bill(in *inputs, stub string) ([]byte, error) {
	lock, err := kernel.Committed()
	if err != nil {
		return nil, err
	}
	seconds, err := strconv.ParseInt(o.Source.Epoch, 10, 64)
	if err != nil {
		seconds = 0 // a tree without git
	}
	return sbom.Document(sbom.Image{
		Version: o.Source.Version, Flavour: o.Flavour, Time: time.Unix(seconds, 0), Binary: in.system.Init,
		Debian: []sbom.Debian{
			{Name: in.kernel.Package, Version: in.kernel.Version, SHA256: in.kernel.SHA256},
			{Name: lock.Stub.Package, Version: stub},
		},
	})
}

func osRelease(version, flavour string) []byte {
	return fmt.Appendf(nil, "ID=ratchet\nNAME=Ratchet\nVERSION_ID=%q\nVARIANT_ID=%s\nPRETTY_NAME=%q\n",
		version, flavour, "Ratchet "+version+" ("+flavour+")")
}
