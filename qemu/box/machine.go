package box

import (
	"fmt"
	"os"
	"path/filepath"
)

// What a machine's folder holds beside vm/, which is the virtual machine's own.
const (
	diskFile  = "disk.img"
	tpmDir    = "tpm"
	clientDir = "client"
)

// CloneDisk copies the boot disk of a machine that is switched off into another machine's folder, replacing the one
// there. Disk and TPM of different ages are how rollbacks are played.
func CloneDisk(to, from string) error {
	if err := os.MkdirAll(to, 0o755); err != nil {
		return err
	}
	return copySparse(filepath.Join(to, diskFile), filepath.Join(from, diskFile))
}

// CloneTPM copies the TPM's state; a machine that has none yet leaves the other without.
func CloneTPM(to, from string) error {
	dst, src := filepath.Join(to, tpmDir), filepath.Join(from, tpmDir)
	if err := os.RemoveAll(dst); err != nil {
		return fmt.Errorf("replace the TPM's state: %w", err)
	}
	if _, err := os.Stat(src); os.IsNotExist(err) {
		return nil
	}
	if err := os.CopyFS(dst, os.DirFS(src)); err != nil {
		return fmt.Errorf("copy the TPM's state: %w", err)
	}
	return nil
}

// Clone copies a whole machine that is switched off, its operator's login too.
func Clone(to, from string) error {
	if err := CloneDisk(to, from); err != nil {
		return err
	}
	if err := CloneTPM(to, from); err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(from, clientDir)); err != nil {
		return nil // nobody has logged in
	}
	if err := os.CopyFS(filepath.Join(to, clientDir), os.DirFS(filepath.Join(from, clientDir))); err != nil {
		return fmt.Errorf("copy the login: %w", err)
	}
	return nil
}
