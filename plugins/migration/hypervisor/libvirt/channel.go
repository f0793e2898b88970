package libvirt

import (
	"context"
	"fmt"
	"net"
	"time"

	"github.com/ratchetos/ratchet/plugins/migration/agent/wire"
	"github.com/ratchetos/ratchet/plugins/migration/hypervisor/libvirt/remote"
)

// channel is a stream with a connection of its own, so that one that is not read holds up nothing else.
type channel struct {
	*remote.Stream
	conn *remote.Conn
}

// Close ends both.
func (c *channel) Close() error {
	_ = c.Stream.Close() // the connection tells the daemon as well
	return c.conn.Close()
}

// Channel implements hypervisor.Port. It ends a connection to the agent that somebody else has through libvirt.
func (p *Port) Channel(ctx context.Context, vm string) (net.Conn, error) {
	dom, err := p.active(ctx, vm)
	if err != nil {
		return nil, err
	}
	conn, err := p.connect(ctx)
	if err != nil {
		return nil, err
	}
	s, err := conn.OpenChannel(ctx, dom, wire.Port, true)
	if err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("channel %s of %s on %s: %w", wire.Port, vm, p.conf.Name, err)
	}
	return &channel{s, conn}, nil
}

// States and figures of a measurement, by libvirt's names.
const (
	rateStatus   = "dirtyrate.calc_status"
	rateValue    = "dirtyrate.megabytes_per_second"
	rateMeasured = 2
)

// DirtyRate implements hypervisor.Port. libvirt measures for whole seconds, up to 60, and tells MiB a second.
func (p *Port) DirtyRate(ctx context.Context, vm string, over time.Duration) (float64, error) {
	rate, err := p.dirtyRate(ctx, vm, over)
	if err != nil {
		return 0, fmt.Errorf("measure what %s on %s writes: %w", vm, p.conf.Name, err)
	}
	return rate, nil
}

func (p *Port) dirtyRate(ctx context.Context, vm string, over time.Duration) (float64, error) {
	dom, err := p.active(ctx, vm)
	if err != nil {
		return 0, err
	}
	seconds := min(max(over.Round(time.Second)/time.Second, 1), 60)
	if err := p.conn.StartDirtyRate(ctx, dom, int32(seconds)); err != nil {
		return 0, err
	}
	tick := time.NewTicker(5 * pollEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
		stats, err := p.conn.Stats(ctx, dom, remote.StatsDirtyRate)
		if err != nil {
			return 0, err
		}
		if stats.Uint(rateStatus) == rateMeasured {
			return float64(stats.Uint(rateValue) << 20), nil
		}
	}
}
