package host

import (
	"crypto/tls"
	"errors"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ratchetos/ratchet/core/plugin/wire"
)

// TestClockThatIsSet: core and its plugins trust each other whatever the clock said when core started, and says since.
func TestClockThatIsSet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // it is the year 2000 here, as after an empty battery
		a, err := newAuthority()
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			var boot wire.Bootstrap
			if err := a.bootstrap("one", &boot); err != nil {
				t.Fatal(err)
			}
			server, err := boot.ServerTLS()
			if err != nil {
				t.Fatal(err)
			}
			ours, theirs := net.Pipe()
			served := make(chan error, 1)
			go func() {
				defer theirs.Close()
				served <- tls.Server(theirs, server).Handshake()
			}()
			err = tls.Client(ours, a.clientTLS("one")).Handshake()
			ours.Close()
			if err := errors.Join(err, <-served); err != nil {
				t.Errorf("in %d: %v", time.Now().Year(), err)
			}
			time.Sleep(30 * 365 * 24 * time.Hour)
		}
	})
}
