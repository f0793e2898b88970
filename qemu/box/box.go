package box

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/ratchetos/ratchet/boot/ledger"
	"github.com/ratchetos/ratchet/image/builder"
	"github.com/ratchetos/ratchet/image/disk"
	"github.com/ratchetos/ratchet/qemu/vm"
)

// Ports of the appliance that every box forwards to the host.
const (
	APIPort = 8443
	NBDPort = 10809
)

// Options of a box. Image and Dir are needed.
type Options struct {
	// Image is the output folder of `image build`, for example build/image/full.
	Image string
	// Dir keeps what persists between power-ons; it is made when missing.
	Dir string
	// Config is written to the disk when Dir gets it, as a factory would. A machine that has run keeps its own.
	Config []byte
	// UEFI boots from the disk through OVMF; otherwise the kernel is loaded directly, which is much cheaper.
	UEFI bool
	// SecureBoot enrols Cert as the only key; implies UEFI.
	SecureBoot bool
	// SetupMode starts with the firmware of SecureBoot and no keys in it.
	SetupMode bool
	Cert      []byte // PEM
	// NoTPM leaves the TPM out.
	NoTPM bool
	// BootDisk is the model of the boot disk, virtio-blk if empty.
	BootDisk string
	// BootDrive, when set, is called with the boot disk's file and returns what QEMU opens in its place, for example
	// a package powercut's NBD export of that file.
	BootDrive func(path string) (filename string, err error)
	// Bus is between the machine and its TPM.
	Bus   vm.Bus
	Disks []vm.Disk
	// NICs beside the management NIC, which is always the first one.
	NICs []vm.NIC
	// Forwards are guest ports beside APIPort and NBDPort.
	Forwards  []int
	ExtraArgs []string
	Memory    string
	CPUs      int // 2 if zero
	Stdout    io.Writer
	Limit     time.Duration
}

// Box is a running appliance.
type Box struct {
	*vm.VM
	Dir     string
	ratchet string // the binary inside the image, for ratchetctl
}

// Boot starts the machine and returns at once; wait with Verdict and Ready.
func Boot(ctx context.Context, o Options) (*Box, error) {
	if err := os.MkdirAll(o.Dir, 0o755); err != nil {
		return nil, err
	}
	bootDisk := filepath.Join(o.Dir, diskFile)
	if _, err := os.Stat(bootDisk); os.IsNotExist(err) {
		if err := copySparse(bootDisk, filepath.Join(o.Image, builder.DiskFile)); err != nil {
			return nil, err
		}
		if o.Config != nil {
			if err := seedConfig(bootDisk, o.Config); err != nil {
				return nil, err
			}
		}
	}
	drive := bootDisk
	if o.BootDrive != nil {
		var err error
		if drive, err = o.BootDrive(bootDisk); err != nil {
			return nil, err
		}
	}
	c := vm.Config{
		Name: "ratchet", Dir: filepath.Join(o.Dir, "vm"), Memory: o.Memory, CPUs: o.CPUs, Stdout: o.Stdout, Limit: o.Limit, ExtraArgs: o.ExtraArgs,
		Disks: append([]vm.Disk{{Path: drive, Model: o.BootDisk, Serial: "ratchet-boot"}}, o.Disks...),
	}
	forwards := []vm.Forward{{Guest: APIPort}, {Guest: NBDPort}}
	for _, port := range o.Forwards {
		forwards = append(forwards, vm.Forward{Guest: port})
	}
	c.NICs = append([]vm.NIC{{MAC: "52:54:00:72:61:01", Net: vm.User{Forwards: forwards}}}, o.NICs...)
	if !o.NoTPM {
		c.TPM = &vm.TPM{Dir: filepath.Join(o.Dir, tpmDir), Bus: o.Bus}
	}
	if o.UEFI || o.SecureBoot || o.SetupMode {
		c.Firmware = vm.UEFI{SecureBoot: o.SecureBoot || o.SetupMode, Cert: o.Cert, SetupMode: o.SetupMode}
	} else {
		cmdline, err := os.ReadFile(filepath.Join(o.Image, builder.CmdlineFile))
		if err != nil {
			return nil, fmt.Errorf("boot %s: %w (build it: make image)", o.Image, err)
		}
		c.Firmware = vm.Direct{
			Kernel: filepath.Join(o.Image, builder.KernelFile), Initrd: filepath.Join(o.Image, builder.InitrdFile),
			Cmdline: strings.TrimSpace(strings.TrimRight(string(cmdline), "\x00")),
		}
	}
	m, err := vm.Start(ctx, c)
	if err != nil {
		return nil, err
	}
	return &Box{VM: m, Dir: o.Dir, ratchet: filepath.Join(o.Image, builder.ApplianceFile)}, nil
}

// seedConfig writes a fresh LEDGER with the configuration in it, the state a disk leaves the factory in.
func seedConfig(path string, config []byte) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	p, err := Partition(path, disk.Ledger)
	if err != nil {
		return err
	}
	at := io.NewOffsetWriter(f, p.Start)
	if _, err := at.WriteAt(make([]byte, p.Size), 0); err != nil {
		return fmt.Errorf("clear LEDGER of %s: %w", path, err)
	}
	if err := ledger.Format(at, config); err != nil {
		return fmt.Errorf("format LEDGER of %s: %w", path, err)
	}
	return f.Sync()
}

// Partition finds a partition of a disk image by name.
func Partition(path, name string) (disk.Partition, error) {
	st, err := os.Stat(path)
	if err != nil {
		return disk.Partition{}, err
	}
	parts, err := disk.Layout(st.Size())
	if err != nil {
		return disk.Partition{}, fmt.Errorf("%s: %w", path, err)
	}
	for _, p := range parts {
		if p.Name == name {
			return p, nil
		}
	}
	return disk.Partition{}, fmt.Errorf("%s has no partition %s", path, name)
}
