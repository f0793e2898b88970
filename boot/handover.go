package boot

import (
	"encoding/json"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/ratchetos/ratchet/boot/verdict"
)

// handover execs core in this process; it returns only with an error.
func handover(r Result, say func(string, ...any)) error {
	if r.Config == nil {
		b, err := os.ReadFile(appliancePath)
		if err != nil {
			say("warning: read the image's own configuration: %v", err)
		}
		r.Config = b
	}
	report, err := json.Marshal(r.Report)
	if err != nil {
		return fmt.Errorf("write boot report: %w", err)
	}
	env := os.Environ()
	for _, f := range []struct {
		variable, name string
		data           []byte
	}{{verdict.EnvReport, "boot-report", report}, {verdict.EnvConfig, "configuration", r.Config}, {verdict.EnvSecret, "secret", r.Secret}} {
		fd, err := sealed(f.name, f.data)
		if err != nil {
			return fmt.Errorf("hand over %s: %w", f.name, err)
		}
		env = append(env, f.variable+"="+strconv.Itoa(fd))
	}
	return fmt.Errorf("exec core: %w", unix.Exec("/proc/self/exe", []string{"core"}, env))
}

// sealed makes a memfd that nobody can change any more, open at its start and kept over exec.
func sealed(name string, data []byte) (int, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_ALLOW_SEALING)
	if err != nil {
		return -1, err
	}
	// The descriptor stays raw: an os.File would close it in the garbage collector.
	for at := 0; at < len(data); {
		n, err := unix.Pwrite(fd, data[at:], int64(at))
		if err != nil {
			_ = unix.Close(fd)
			return -1, err
		}
		at += n
	}
	seals := unix.F_SEAL_WRITE | unix.F_SEAL_GROW | unix.F_SEAL_SHRINK | unix.F_SEAL_SEAL
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, seals); err != nil {
		_ = unix.Close(fd)
		return -1, err
	}
	return fd, nil
}
