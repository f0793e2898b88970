package core

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/ratchetos/ratchet/boot/verdict"
)

// maxHandoff bounds each memory file, in bytes.
const maxHandoff = 4 << 20

// handoff is what init left for core.
type handoff struct {
	report *verdict.Report // nil: core was not started by init
	config []byte
	// secret is core's key, 32 bytes that only a released box has: it authorises raising the TPM's security version.
	secret []byte
}

// takeHandoff reads the memory files and removes their names from the environment, so that no child sees them.
func takeHandoff() (handoff, error) {
	raw, err := takeFile(verdict.EnvReport)
	if err != nil || raw == nil {
		return handoff{}, err
	}
	h := handoff{report: new(verdict.Report)}
	if err := json.Unmarshal(raw, h.report); err != nil {
		return handoff{}, fmt.Errorf("read boot report: %w", err)
	}
	if h.report.Version != verdict.ReportVersion {
		return handoff{}, fmt.Errorf("read boot report: version %d, this core knows %d", h.report.Version, verdict.ReportVersion)
	}
	if h.config, err = takeFile(verdict.EnvConfig); err != nil {
		return h, err
	}
	h.secret, err = takeFile(verdict.EnvSecret)
	return h, err
}

// takeFile reads the memory file whose number is in the environment, nil when there is none.
func takeFile(env string) ([]byte, error) {
	value, ok := os.LookupEnv(env)
	if !ok {
		return nil, nil
	}
	if err := os.Unsetenv(env); err != nil {
		return nil, err
	}
	fd, err := strconv.Atoi(value)
	if err != nil || fd < 3 {
		return nil, fmt.Errorf("read %s: %q is no descriptor", env, value)
	}
	f := os.NewFile(uintptr(fd), env)
	if f == nil {
		return nil, fmt.Errorf("read %s: bad descriptor %d", env, fd)
	}
	defer f.Close()
	// Only a file that nobody can change any more is believed.
	seals, err := unix.FcntlInt(f.Fd(), unix.F_GET_SEALS, 0)
	if err != nil || seals&unix.F_SEAL_WRITE == 0 {
		return nil, fmt.Errorf("read %s: not a sealed memory file: %w", env, errors.Join(err, os.ErrInvalid))
	}
	b, err := io.ReadAll(io.NewSectionReader(f, 0, maxHandoff))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", env, err)
	}
	return b, nil
}
