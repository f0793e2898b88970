package vm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ratchetos/ratchet/qemu/internal/cache"
)

// Accel is how QEMU executes the guest.
type Accel string

const (
	// TCG translates; it works everywhere.
	TCG Accel = "tcg"
	// KVM uses the processor's virtualisation.
	KVM Accel = "kvm"
)

// AccelEnv overrides the probe: "tcg" or "kvm".
const AccelEnv = "RATCHET_ACCEL"

// probeLimit bounds the one boot that decides. A guest that works under KVM needs a quarter of it.
const probeLimit = 8 * time.Second

func (a Accel) args() []string {
	if a == KVM {
		return []string{"-accel", "kvm", "-cpu", "host"}
	}
	return []string{"-accel", "tcg,thread=multi", "-cpu", "max"}
}

// verdict is what the cache keeps of a probe.
type verdict struct {
	Accel  Accel     `json:"accel"`
	Reason string    `json:"reason"`
	At     time.Time `json:"at"`
}

// Accelerator decides how to run machines that start by fw. KVM is taken only after it has booted something:
// the given kernel up to its panic for want of a root file system, or OVMF up to its boot manager. On nested
// hypervisors /dev/kvm can exist, accept a machine, run a BIOS, and hang the first real kernel.
//
// The verdict is kept in ratchet/accel.json in the user's cache folder, by host kernel, QEMU version and kind of
// boot, so that the eight seconds are spent once. RATCHET_ACCEL=tcg or =kvm overrides it.
func Accelerator(ctx context.Context, fw Firmware) (Accel, error) {
	switch a := Accel(os.Getenv(AccelEnv)); a {
	case TCG, KVM:
		return a, nil
	case "":
	default:
		return "", fmt.Errorf("%s is %q, want tcg or kvm", AccelEnv, a)
	}
	if unix.Access("/dev/kvm", unix.R_OK|unix.W_OK) != nil {
		return TCG, nil
	}
	key, err := accelKey(ctx, fw)
	if err != nil {
		return "", err
	}
	dir, err := cache.Dir()
	if err != nil {
		return "", err
	}
	return cachedVerdict(filepath.Join(dir, "accel.json"), key, func() (verdict, error) { return probe(ctx, fw) })
}

// accelKey names everything whose change may change the verdict.
func accelKey(ctx context.Context, fw Firmware) (string, error) {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return "", err
	}
	bin, err := findQEMU()
	if err != nil {
		return "", err
	}
	out, err := exec.CommandContext(ctx, bin, "--version").Output()
	if err != nil {
		return "", fmt.Errorf("ask QEMU for its version: %w", err)
	}
	version, _, _ := strings.Cut(string(out), "\n")
	kind := "uefi"
	if _, ok := fw.(Direct); ok {
		kind = "direct"
	}
	return fmt.Sprintf("linux %s, %s, %s", unix.ByteSliceToString(u.Release[:]), version, kind), nil
}

// errNotStarted comes with a verdict that holds for this machine only: QEMU did not get as far as the guest.
var errNotStarted = errors.New("QEMU did not start")

// cachedVerdict returns the verdict under key in file, or what probe finds. Processes that ask at the same time
// wait for one probe. A file without valid content is as good as none.
func cachedVerdict(file, key string, probe func() (verdict, error)) (Accel, error) {
	unlock, err := cache.Lock(file + ".lock")
	if err != nil {
		return "", err
	}
	defer unlock()
	known := map[string]verdict{}
	b, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	if json.Unmarshal(b, &known) != nil {
		known = map[string]verdict{}
	}
	if v, ok := known[key]; ok && (v.Accel == TCG || v.Accel == KVM) {
		return v.Accel, nil
	}
	v, err := probe()
	if errors.Is(err, errNotStarted) {
		return v.Accel, nil
	}
	if err != nil {
		return "", err
	}
	known[key] = v
	if b, err = json.MarshalIndent(known, "", "  "); err != nil {
		return "", err
	}
	// Written aside and renamed: a reader without the lock must not see half a file.
	if err := os.WriteFile(file+".new", append(b, '\n'), 0o644); err != nil {
		return "", err
	}
	return v.Accel, os.Rename(file+".new", file)
}

// probe boots under KVM. Whatever goes wrong is a verdict against KVM, but the end of ctx, and a QEMU that does
// not start at all: that may be the fault of a missing kernel file.
func probe(ctx context.Context, fw Firmware) (verdict, error) {
	v := verdict{Accel: TCG, At: time.Now().UTC().Truncate(time.Second)}
	c := Config{Name: "accel-probe", Memory: "256M", CPUs: 1, NoReboot: true, Limit: probeLimit}
	var sign string
	switch fw := fw.(type) {
	case Direct:
		c.Firmware = Direct{Kernel: fw.Kernel, Cmdline: "console=ttyS0 panic=-1"}
		sign = "Kernel panic - not syncing: VFS"
	default:
		c.Firmware = UEFI{}
		sign = "BdsDxe:|UEFI Interactive Shell"
	}
	m, err := start(ctx, c.withDefaults(), KVM)
	if err != nil && ctx.Err() == nil {
		return v, fmt.Errorf("%w: %w", errNotStarted, err)
	}
	if err == nil {
		_, err = m.Expect(ctx, sign)
		_ = m.Close()
	}
	if ctx.Err() != nil {
		return v, context.Cause(ctx)
	}
	if err != nil {
		v.Reason, _, _ = strings.Cut(err.Error(), "\n")
		return v, nil
	}
	v.Accel, v.Reason = KVM, "booted"
	return v, nil
}
