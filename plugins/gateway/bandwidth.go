package gateway

import (
	"context"
	"sync"

	"github.com/ratchetos/ratchet/plugins/gateway/upload"
)

// pace holds the uploads of one volume to its schedule, which may be replaced while it serves: what waits for its turn
// by the old one waits by the new one then. The zero value has no limit.
type pace struct {
	mu      sync.Mutex
	limiter *upload.Limiter
	changed context.Context // ends when the limiter is replaced; nil until somebody has waited
	replace context.CancelFunc
}

// set replaces the schedule.
func (p *pace) set(schedule []BandwidthConfig) {
	var l *upload.Limiter
	if len(schedule) > 0 {
		var s upload.Schedule
		for _, b := range schedule { // has been checked
			from, _ := upload.ParseClock(b.From)
			to, _ := upload.ParseClock(b.To)
			s = append(s, upload.Window{From: from, To: to, Rate: int64(b.Rate)})
		}
		l = upload.NewLimiter(s, nil)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.limiter = l
	if p.replace != nil {
		p.replace()
		p.changed, p.replace = nil, nil
	}
}

func (p *pace) current() (*upload.Limiter, context.Context) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.changed == nil {
		p.changed, p.replace = context.WithCancel(context.Background())
	}
	return p.limiter, p.changed
}

// wait returns when n bytes may go.
func (p *pace) wait(ctx context.Context, n int64) error {
	for {
		l, changed := p.current()
		if l == nil {
			return nil
		}
		until, cancel := context.WithCancel(ctx)
		stop := context.AfterFunc(changed, cancel)
		err := l.Wait(until, n)
		stop()
		cancel()
		if err == nil || ctx.Err() != nil || changed.Err() == nil {
			return err
		}
	}
}
