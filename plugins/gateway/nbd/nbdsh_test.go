package nbd_test

import (
	"fmt"
	"path/filepath"
	"testing"

	"github.com/ratchetos/ratchet/plugins/gateway/nbd/nbdtest"
)

// TestClientNbdsh runs libnbd's shell through everything that libnbd can ask of a server. Debian's Python is the one
// that has its module.
func TestClientNbdsh(t *testing.T) {
	script := must[string](t)(filepath.Abs("testdata/conformance.py"))
	for name, backend := range clientBackends {
		t.Run(name, func(t *testing.T) {
			srv := serve(t, backend(64*mib))
			run(t, "/usr/bin/python3", "-m", "nbd", "-c", fmt.Sprintf("uri = %q; exec(compile(open(%q).read(), 'conformance.py', 'exec'), globals())", srv.uri(), script))
		})
	}
}

// TestClientNbdClient lists the exports with the client of the reference implementation.
func TestClientNbdClient(t *testing.T) {
	srv := serve(t, nbdtest.NewMemory(mib))
	run(t, "nbd-client", "-l", "-u", srv.addr)
}
