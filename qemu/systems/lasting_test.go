package systems

import (
	"context"
	"os"
	"sync"
	"testing"

	"github.com/ratchetos/ratchet/plugins/dataplane/nettest"
	"github.com/ratchetos/ratchet/plugins/migration/hypervisor/libvirt/libvirttest"
)

// TestMain ends what several rows share when all of them are done.
func TestMain(m *testing.M) {
	libvirttest.Keeper()
	nettest.BeInstance()
	code := m.Run()
	dataplaneRows.end()
	migrationRows.end()
	os.Exit(code)
}

// Machines that rows of one process share: a boot is most of what a short row costs.
var dataplaneRows, migrationRows = &lasting{}, &lasting{}

// lasting stands for the test at hand, but what is cleaned up after it stays until the last row
// that shares it, or the process, ends.
type lasting struct {
	testing.TB // of the row that runs
	ctx        context.Context
	cancel     context.CancelFunc

	mu      sync.Mutex
	cleanup []func()
	failed  bool
}

// during makes t the one that failures are told to.
func (l *lasting) during(t *testing.T) *lasting {
	if l.ctx == nil {
		l.ctx, l.cancel = context.WithCancel(context.Background())
	}
	l.TB = t
	t.Cleanup(func() { l.failed = l.failed || t.Failed() })
	return l
}

// last says that no row after this one shares it: a machine that nobody looks at costs the others half a processor. It is
// called before during, whose cleanup is to come first.
func (l *lasting) last(t *testing.T) { t.Cleanup(l.end) }

// Context lasts until the end.
func (l *lasting) Context() context.Context { return l.ctx }

// Cleanup puts f off until the end.
func (l *lasting) Cleanup(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cleanup = append(l.cleanup, f)
}

// Failed says whether any row did.
func (l *lasting) Failed() bool { return l.failed }

func (l *lasting) end() {
	if l.cancel == nil {
		return
	}
	for i := len(l.cleanup) - 1; i >= 0; i-- {
		l.cleanup[i]()
	}
	l.cancel()
	l.cleanup, l.ctx, l.cancel = nil, nil, nil
}
