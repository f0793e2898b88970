package plugin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/ratchetos/ratchet/core/plugin/pluginpb"
	"github.com/ratchetos/ratchet/core/plugin/wire"
)

// Handover is implemented by features whose clients need not notice that a process takes another's place. It is for
// changes that are planned: after a crash nothing is handed over, and a peer sees its connection break at once,
// because nobody else holds it.
type Handover interface {
	// Export ends service where another process can go on, and returns what that takes. It is called after Drain and
	// before Stop, and only if a next process follows. The sockets in it belong to the caller.
	Export(ctx context.Context) (Luggage, error)
	// Import is called between Configure and Start, with what the process before exported. The sockets belong to the
	// feature. The configuration may have changed in between.
	Import(ctx context.Context, l Luggage) error
}

// Luggage is what one process leaves to the next.
type Luggage struct {
	State []byte // at most 64 MiB
	// Sockets are connected ones, by a name of the feature's choice; at most MaxSockets.
	Sockets map[string]*os.File
}

// MaxSockets is how many sockets can be handed over.
const MaxSockets = 128

// Close closes the sockets.
func (l Luggage) Close() {
	for _, f := range l.Sockets {
		f.Close()
	}
}

const (
	// maxState bounds the live state of one hand-over, and exportChunk one message of it.
	maxState    = 64 << 20
	exportChunk = 256 << 10
	// ImportPrefix keeps the names of imported sockets apart from those of handles on the control socket.
	ImportPrefix = "import/"
	socketLimit  = 2 * time.Second
)

// Export streams the feature's state and sockets. Every socket is on the control socket before the message that names it.
func (s *server) Export(_ *pluginpb.ExportRequest, stream grpc.ServerStreamingServer[pluginpb.StateChunk]) error {
	h, ok := s.feature.(Handover)
	if !ok {
		return status.Error(codes.Unimplemented, "no hand-over")
	}
	s.invokeContext()
	s.endInvokes() // as in Stop, which follows
	s.life.Lock()
	defer s.life.Unlock()
	if !s.started || s.stopped.Load() {
		return status.Error(codes.FailedPrecondition, "not serving")
	}
	l, err := h.Export(stream.Context())
	if err != nil {
		return status.Errorf(codes.Aborted, "export: %v", err)
	}
	defer l.Close()
	if len(l.State) > maxState || len(l.Sockets) > MaxSockets {
		return status.Errorf(codes.ResourceExhausted, "export: %d bytes of state and %d sockets, at most %d and %d",
			len(l.State), len(l.Sockets), maxState, MaxSockets)
	}
	return SendLuggage(l, "", s.control, stream.Send)
}

// Import collects what the process before left.
func (s *server) Import(stream grpc.ClientStreamingServer[pluginpb.StateChunk, pluginpb.ImportReply]) error {
	h, ok := s.feature.(Handover)
	if !ok {
		return status.Error(codes.Unimplemented, "no hand-over")
	}
	ctx := stream.Context()
	l, err := ReceiveLuggage(stream.Recv, func(name string) (*os.File, error) { return s.handles.take(ctx, ImportPrefix+name) })
	if err != nil {
		return status.Errorf(codes.Aborted, "import: %v", err)
	}
	s.life.Lock()
	defer s.life.Unlock()
	if s.started {
		l.Close()
		return status.Error(codes.FailedPrecondition, "started already")
	}
	if err := h.Import(ctx, l); err != nil {
		return status.Errorf(codes.Aborted, "import: %v", err)
	}
	return stream.SendAndClose(&pluginpb.ImportReply{})
}

// SendLuggage sends the sockets over the control socket and all that is to be known over a stream. Both ends of a
// hand-over use it, the plugin and core.
func SendLuggage(l Luggage, prefix string, control *wire.Control, send func(*pluginpb.StateChunk) error) error {
	for name, f := range l.Sockets {
		m := wire.Message{Kind: wire.KindHandle, Name: prefix + name}
		if err := control.Send(m, f, time.Now().Add(socketLimit)); err != nil {
			return err
		}
		if err := send(&pluginpb.StateChunk{Socket: name}); err != nil {
			return fmt.Errorf("hand over socket %s: %w", name, err)
		}
	}
	for state := l.State; len(state) > 0; {
		n := min(len(state), exportChunk)
		if err := send(&pluginpb.StateChunk{Data: state[:n]}); err != nil {
			return fmt.Errorf("hand over state: %w", err)
		}
		state = state[n:]
	}
	return nil
}

// ReceiveLuggage is the other end of SendLuggage; take returns the descriptor that came for a socket.
func ReceiveLuggage(recv func() (*pluginpb.StateChunk, error), take func(name string) (*os.File, error)) (Luggage, error) {
	l := Luggage{Sockets: make(map[string]*os.File)}
	for {
		c, err := recv()
		if errors.Is(err, io.EOF) {
			return l, nil
		}
		if err == nil {
			err = l.add(c, take)
		}
		if err != nil {
			l.Close()
			return Luggage{}, err
		}
	}
}

func (l *Luggage) add(c *pluginpb.StateChunk, take func(name string) (*os.File, error)) error {
	if name := c.GetSocket(); name != "" {
		if l.Sockets[name] != nil || len(l.Sockets) == MaxSockets {
			return fmt.Errorf("socket %s comes twice, or after %d others", name, MaxSockets)
		}
		f, err := take(name)
		if err != nil {
			return err
		}
		l.Sockets[name] = f
	}
	if len(l.State)+len(c.GetData()) > maxState {
		return fmt.Errorf("more than %d bytes of state", maxState)
	}
	l.State = append(l.State, c.GetData()...)
	return nil
}
