package host

import (
	"context"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/ratchetos/ratchet/core/plugin"
	"github.com/ratchetos/ratchet/core/plugin/pluginpb"
	"github.com/ratchetos/ratchet/core/plugin/wire"
)

// importTimeout bounds the taking over: clients wait meanwhile, and can connect again if it takes too long.
const importTimeout = 5 * time.Second

// luggage is what a plugin's last process left to the next one. Core holds the sockets between the two processes and
// at no other time: a second holder would hide the death of a process from its peers.
type luggage struct {
	mu   sync.Mutex
	left plugin.Luggage
	some bool
}

// put replaces what was there.
func (g *luggage) put(l plugin.Luggage) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.left.Close()
	g.left, g.some = l, len(l.State) > 0 || len(l.Sockets) > 0
}

// take gives it to the caller, once.
func (g *luggage) take() (plugin.Luggage, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	l, some := g.left, g.some
	g.left, g.some = plugin.Luggage{}, false
	return l, some
}

func (g *luggage) drop() {
	l, _ := g.take()
	l.Close()
}

// export asks the process what the next one needs.
func (p *process) export(ctx context.Context) (plugin.Luggage, error) {
	stream, err := p.rpc.Export(ctx, &pluginpb.ExportRequest{})
	if err != nil {
		return plugin.Luggage{}, err
	}
	return plugin.ReceiveLuggage(stream.Recv, p.receive)
}

// receive takes the descriptor that the process sent before it named it.
func (p *process) receive(name string) (*os.File, error) {
	m, f, err := p.control.ReceiveBefore(time.Now().Add(sendTimeout))
	if err != nil {
		return nil, err
	}
	if m.Kind != wire.KindHandle || m.Name != name {
		f.Close()
		return nil, fmt.Errorf("receive socket %s: %s %s came instead", name, m.Kind, m.Name)
	}
	return f, nil
}

// importLuggage gives the process what the one before left, and closes it here whatever comes of it.
func (p *process) importLuggage(ctx context.Context, l plugin.Luggage) error {
	defer l.Close()
	ctx, cancel := context.WithTimeout(ctx, importTimeout)
	defer cancel()
	stream, err := p.rpc.Import(ctx)
	if err != nil {
		return err
	}
	if err := plugin.SendLuggage(l, plugin.ImportPrefix, p.control, stream.Send); err != nil {
		return err
	}
	_, err = stream.CloseAndRecv()
	return err
}
