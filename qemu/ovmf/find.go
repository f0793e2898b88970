package ovmf

import (
	"fmt"
	"os"
	"path/filepath"
)

// Dir is where Debian and Ubuntu install OVMF.
const Dir = "/usr/share/OVMF"

// Files are the two flash images of one firmware build: code, shared and read-only, and the template of the
// variable store, of which every machine needs its own copy.
type Files struct {
	Code, Vars string
}

// Find locates the 4 MiB build of OVMF. With secureBoot it is the build that keeps its variables behind
// system management mode, without which a guest kernel could switch verification off.
func Find(secureBoot bool) (Files, error) { return findIn(Dir, secureBoot) }

func findIn(dir string, secureBoot bool) (Files, error) {
	f := Files{Code: filepath.Join(dir, "OVMF_CODE_4M.fd"), Vars: filepath.Join(dir, "OVMF_VARS_4M.fd")}
	if secureBoot {
		f.Code = filepath.Join(dir, "OVMF_CODE_4M.secboot.fd")
	}
	for _, path := range []string{f.Code, f.Vars} {
		if _, err := os.Stat(path); err != nil {
			return Files{}, fmt.Errorf("find UEFI firmware: %w (apt-get install ovmf)", err)
		}
	}
	return f, nil
}
