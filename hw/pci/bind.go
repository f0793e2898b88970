package pci

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// isolated is a driver name that no driver has: a function with this override matches nothing,
// neither now nor after a rescan of the drivers.
const isolated = "isolated"

// Freeze keeps the kernel from binding any function to any driver by itself.
func (b Bus) Freeze() error {
	err := write(b.path("drivers_autoprobe"), "0")
	if errors.Is(err, os.ErrNotExist) {
		return nil // no PCI, nothing that could bind
	}
	return err
}

// Quiet takes bus mastering from every function that no driver is bound to, whatever it is: firmware leaves what it
// booted from, and what it scanned, able to write memory. Bridges pass on what is behind them, and a display shows the
// console; both stay as they are.
func (b Bus) Quiet() error {
	functions, err := b.Scan()
	if err != nil {
		return err
	}
	var errs []error
	for _, f := range functions {
		if f.Driver != "" || strings.HasPrefix(f.Class, classBridge) || strings.HasPrefix(f.Class, classDisplay) {
			continue
		}
		errs = append(errs, f.stopMastering())
	}
	return errors.Join(errs...)
}

// Base classes of the PCI Code and ID Assignment Specification.
const (
	classDisplay = "03"
	classBridge  = "06"
)

// Bind attaches the function to the driver, which must be loaded, and to no other. It returns
// when the driver's probe has returned; what the driver finds may come later.
func (b Bus) Bind(address, driver string) error {
	f, err := b.Get(address)
	if err != nil {
		return err
	}
	if f.Driver == driver {
		return nil
	}
	if f.Driver != "" {
		return fmt.Errorf("bind %s to %s: %s is bound to it", address, driver, f.Driver)
	}
	// Two drivers may claim one id (8139cp and 8139too); the override leaves only ours.
	if err := write(filepath.Join(f.dir, "driver_override"), driver); err != nil {
		return err
	}
	if err := write(b.path("drivers", driver, "bind"), address); err != nil {
		return fmt.Errorf("bind %s to %s: %w", address, driver, err)
	}
	return nil
}

// Isolate unbinds the function, forbids any driver and takes its right to start DMA. It is
// done as far as it goes even when a step fails; the error names the steps that did.
func (b Bus) Isolate(address string) error {
	f, err := b.Get(address)
	if err != nil {
		return err
	}
	// The override first: nothing can come in between.
	errs := []error{write(filepath.Join(f.dir, "driver_override"), isolated)}
	if f.Driver != "" {
		errs = append(errs, write(filepath.Join(f.dir, "driver", "unbind"), address))
	}
	errs = append(errs, f.stopMastering())
	return errors.Join(errs...)
}

// Remove takes the function out of the kernel's sight until the bus is scanned again.
func (b Bus) Remove(address string) error {
	f, err := b.Get(address)
	if err != nil {
		return err
	}
	return write(filepath.Join(f.dir, "remove"), "1")
}

// stopMastering clears the bus master bit. Under lockdown (Secure Boot) user space may read
// configuration space but not write it; enabling and disabling the function through sysfs is
// allowed, and disabling clears the bit. The direct write is for kernels where that is not enough.
func (f Function) stopMastering() error {
	on, err := f.Mastering()
	if err != nil || !on {
		return err
	}
	// The kernel refuses to disable what it has not enabled itself; firmware leaves such functions.
	enable := filepath.Join(f.dir, "enable")
	if err := errors.Join(write(enable, "1"), write(enable, "0")); err == nil {
		if on, err = f.Mastering(); err != nil || !on {
			return err
		}
	}
	config, err := os.OpenFile(filepath.Join(f.dir, "config"), os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("clear bus mastering of %s: %w", f.Address, err)
	}
	defer config.Close()
	var command [2]byte
	if _, err := config.ReadAt(command[:], commandOffset); err != nil {
		return fmt.Errorf("clear bus mastering of %s: %w", f.Address, err)
	}
	command[0] &^= commandMaster
	if _, err := config.WriteAt(command[:], commandOffset); err != nil {
		return fmt.Errorf("clear bus mastering of %s: %w", f.Address, err)
	}
	return nil
}

const (
	commandOffset = 4
	commandMaster = 1 << 2
)

// Mastering says whether the function may start DMA.
func (f Function) Mastering() (bool, error) {
	config, err := os.Open(filepath.Join(f.dir, "config"))
	if err != nil {
		return false, fmt.Errorf("read command register of %s: %w", f.Address, err)
	}
	defer config.Close()
	var command [2]byte
	if _, err := config.ReadAt(command[:], commandOffset); err != nil {
		return false, fmt.Errorf("read command register of %s: %w", f.Address, err)
	}
	return command[0]&commandMaster != 0, nil
}

// write sets a sysfs attribute. The file must exist already: an attribute this kernel does not
// have is an error, not a new file.
func write(path, value string) error {
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	// One write(2), as sysfs takes each as a whole value.
	if _, err := unix.Write(fd, []byte(value)); err != nil {
		return &os.PathError{Op: "write", Path: path, Err: err}
	}
	return nil
}
