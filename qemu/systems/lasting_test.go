package systems

import (
	"context"
	"os"
	"sync"
	"testing"
)

// TestMain ends what several rows share when all of them are done.
func TestMain(m *testing.M) {
	code := m.Run()
	shared.end()
	os.Exit(code)
}

// shared is the machine that rows of one process share: a boot is most of what a short row costs.
var shared = &lasting{}

// lasting stands for the test at hand, but what is cleaned up after it stays until the process ends.
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

// Context lasts until the process ends.
func (l *lasting) Context() context.Context { return l.ctx }

// Cleanup puts f off until the process ends.
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
}
