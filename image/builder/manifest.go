package builder

import (
	"encoding/json"
	"fmt"
	"os"

	"github.com/google/renameio/v2"
)

// Names of the files of a build.
const (
	SignedFile    = "ratchet.efi"
	UnsignedFile  = "ratchet.unsigned.efi"
	KernelFile    = "vmlinuz"
	InitrdFile    = "initrd.img"
	CmdlineFile   = "cmdline"
	DiskFile      = "disk.img"
	ManifestFile  = "image.json"
	SBOMFile      = "sbom.spdx.json"
	BundleFile    = "ratchet.bundle"
	ApplianceFile = "ratchet" // the binary inside, for symbols and sizes
)

// Manifest is image.json.
type Manifest struct {
	Version         string       `json:"version"`
	Flavour         string       `json:"flavour"`
	Development     bool         `json:"development"`
	SecurityVersion uint         `json:"security_version"`
	Kernel          KernelRecord `json:"kernel"`
	Stub            string       `json:"stub"` // systemd version
	// Go is the compiler's version, "" when the binary was given and tells none.
	Go string `json:"go,omitempty"`
	// Host are the SHA-256, by path, of the files that come from the machine of the build and from no lock: where a
	// rebuild differs, these say why.
	Host  map[string]string `json:"host"`
	PCR11 PCR               `json:"pcr11"`
	// Certificate is the SHA-256 of the DER certificate the UKI is signed with.
	Certificate string            `json:"certificate"`
	Sizes       Sizes             `json:"sizes"`
	SHA256      map[string]string `json:"sha256"` // by file name
	Level       int               `json:"zstd_level"`
	Modules     []string          `json:"modules"`
	// Missing modules are asked for by the catalogue, but this kernel does not have them.
	Missing []string `json:"missing_modules,omitempty"`
	Seconds float64  `json:"build_seconds"`
}

// KernelRecord says which kernel is inside and whether it is the locked one.
type KernelRecord struct {
	Package string `json:"package"`
	Version string `json:"version"`
	Release string `json:"release"`
	SHA256  string `json:"sha256"`
	Locked  bool   `json:"locked"`
	Warning string `json:"warning,omitempty"`
}

// PCR is a predicted register, one value a bank.
type PCR struct {
	SHA256 string `json:"sha256"`
}

// Sizes are in bytes.
type Sizes struct {
	UKI          int `json:"uki"`
	Binary       int `json:"binary"`
	Initramfs    int `json:"initramfs"` // compressed
	InitramfsRaw int `json:"initramfs_raw"`
}

// ReadManifest reads an image.json.
func ReadManifest(path string) (Manifest, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return Manifest{}, fmt.Errorf("read manifest: %w", err)
	}
	var m Manifest
	if err := json.Unmarshal(b, &m); err != nil {
		return Manifest{}, fmt.Errorf("parse manifest %s: %w", path, err)
	}
	return m, nil
}

func (m Manifest) write(path string) error {
	b, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return fmt.Errorf("write manifest: %w", err)
	}
	if err := renameio.WriteFile(path, append(b, '\n'), 0o644); err != nil {
		return fmt.Errorf("write manifest: %w", err)
	}
	return nil
}
