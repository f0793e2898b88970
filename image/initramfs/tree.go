package initramfs

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/u-root/u-root/pkg/cpio"

	"github.com/ratchetos/ratchet/boot/enroll"
	"github.com/ratchetos/ratchet/image/kernel"
)

// Paths that init reads; part of the contract between builder and appliance.
const (
	PolicyPath    = "etc/ratchet/policy.json"
	AppliancePath = "etc/ratchet/appliance.yaml"
	StatePath     = "etc/ratchet/state.ext4.zst"
	DirectPath    = "etc/ratchet/direct.pcrsig"
	ClosurePath   = "lib/modules/closure"
	CAPath        = "etc/ssl/certs/ca-certificates.crt"
)

// moduleLevel is one below the best: a second less for each build, 4 % more in the UKI.
const moduleLevel Level = 3

// CompressedSuffix marks a module that is compressed by itself.
const CompressedSuffix = ".zst"

// Modules is the archive of kernel modules and the list init loads them by. Each is compressed
// by itself and stays so in the running box, where the initramfs is memory that is never freed:
// a box uses a few of the modules it carries. What is inside is the whole file: a stripped
// module has no signature and is refused under Secure Boot.
func Modules(c kernel.Closure) ([]byte, error) {
	var recs []cpio.Record
	c.Modules = slices.Clone(c.Modules)
	for i := range c.Modules {
		m := &c.Modules[i]
		if m.Builtin {
			continue
		}
		data, err := os.ReadFile(m.File)
		if err != nil {
			return nil, fmt.Errorf("read module %s: %w", m.Name, err)
		}
		if data, err = frame(data, moduleLevel); err != nil {
			return nil, fmt.Errorf("compress module %s: %w", m.Name, err)
		}
		m.Path += CompressedSuffix
		recs = append(recs, file(strings.TrimPrefix(m.Path, "/"), data, 0o644))
	}
	recs = append(recs, file(ClosurePath, []byte(c.Text()), 0o644))
	return archive(recs)
}

// SystemFiles are the contents of the system archive; nil leaves a file out.
type SystemFiles struct {
	Init      []byte // the appliance binary
	Policy    []byte // JSON
	Appliance []byte // default configuration, YAML
	CA        []byte // PEM bundle
	Direct    []byte // signed PCR policy of a direct kernel boot
	State     []byte // start of an empty file system for STATE; compressed here
	Enrolment enroll.Files
}

// System is the archive of everything that changes with the code.
func System(f SystemFiles) ([]byte, error) {
	state := f.State
	if state != nil {
		var err error
		if state, err = frame(state, maxLevel); err != nil {
			return nil, fmt.Errorf("compress STATE: %w", err)
		}
	}
	recs := []cpio.Record{
		// Mount points of init, and what a process needs before devtmpfs is mounted.
		cpio.Directory("dev", 0o755),
		cpio.CharDev("dev/console", 0o600, 5, 1),
		cpio.CharDev("dev/null", 0o666, 1, 3),
		cpio.Directory("proc", 0o555),
		cpio.Directory("sys", 0o555),
		cpio.Directory("run", 0o755),
		cpio.Directory("state", 0o700),
		cpio.Directory("tmp", 0o1777),
		cpio.Directory("etc", 0o755),
	}
	for _, e := range []struct {
		name string
		data []byte
		perm uint64
	}{
		{PolicyPath, f.Policy, 0o600}, // may hold the development recovery key
		{AppliancePath, f.Appliance, 0o600},
		{CAPath, f.CA, 0o644},
		{DirectPath, f.Direct, 0o644},
		{StatePath, state, 0o600},
		{enroll.Dir + "/PK.auth", f.Enrolment.PK, 0o644},
		{enroll.Dir + "/KEK.auth", f.Enrolment.KEK, 0o644},
		{enroll.Dir + "/db.auth", f.Enrolment.DB, 0o644},
		{"init", f.Init, 0o755},
	} {
		if e.data != nil {
			recs = append(recs, file(e.name, e.data, e.perm))
		}
	}
	return archive(recs)
}

func file(name string, data []byte, perm uint64) cpio.Record {
	return cpio.StaticRecord(data, cpio.Info{Name: name, Mode: cpio.S_IFREG | perm})
}

// archive writes records with their parent folders, without which the kernel drops a file
// silently.
func archive(recs []cpio.Record) ([]byte, error) {
	cpio.MakeAllReproducible(recs)
	var b bytes.Buffer
	w := cpio.Newc.Writer(&b)
	if err := cpio.WriteRecordsAndDirs(w, recs); err != nil {
		return nil, fmt.Errorf("write initramfs: %w", err)
	}
	if err := cpio.WriteTrailer(w); err != nil {
		return nil, fmt.Errorf("write initramfs: %w", err)
	}
	return b.Bytes(), nil
}
