package gateway

import (
	"context"
	"sync/atomic"

	"github.com/ratchetos/ratchet/plugins/gateway/upload"
)

// pace holds the uploads of one volume to its schedule, which may be replaced while it serves.
type pace struct {
	limiter atomic.Pointer[upload.Limiter]
}

// set replaces the schedule for all that has not begun to wait.
func (p *pace) set(schedule []BandwidthConfig) {
	if len(schedule) == 0 {
		p.limiter.Store(nil)
		return
	}
	var s upload.Schedule
	for _, b := range schedule { // has been checked
		from, _ := upload.ParseClock(b.From)
		to, _ := upload.ParseClock(b.To)
		s = append(s, upload.Window{From: from, To: to, Rate: int64(b.Rate)})
	}
	p.limiter.Store(upload.NewLimiter(s, nil))
}

// wait returns when n bytes may go.
func (p *pace) wait(ctx context.Context, n int64) error { return p.limiter.Load().Wait(ctx, n) }
