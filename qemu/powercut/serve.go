package powercut

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/ratchetos/ratchet/plugins/gateway/nbd"
)

// exportName is the one export of a server.
const exportName = "disk"

// Server is a Disk on a UNIX socket.
type Server struct {
	// Filename is what QEMU's -drive file= takes.
	Filename string

	tmp  string
	end  context.CancelFunc
	done chan error
}

// Serve offers the disk over NBD until the end of ctx or Stop.
func (d *Disk) Serve(ctx context.Context) (*Server, error) {
	// A folder of our own with a short name: socket paths are limited to 108 bytes.
	tmp, err := os.MkdirTemp("", "cut")
	if err != nil {
		return nil, err
	}
	socket := filepath.Join(tmp, "nbd")
	l, err := net.Listen("unix", socket)
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(tmp))
	}
	set := &nbd.Set{}
	if err := set.Add(&nbd.Export{Name: exportName, Backend: backend{d}}); err != nil {
		return nil, errors.Join(err, l.Close(), os.RemoveAll(tmp))
	}
	ctx, cancel := context.WithCancel(ctx)
	s := &Server{
		Filename: fmt.Sprintf("nbd+unix:///%s?socket=%s", exportName, socket),
		tmp:      tmp, end: cancel, done: make(chan error, 1),
	}
	go func() { s.done <- (&nbd.Server{Exports: set, Grace: time.Millisecond}).Serve(ctx, l) }()
	return s, nil
}

// Stop ends the server; the disk stays as it is.
func (s *Server) Stop() error {
	s.end()
	return errors.Join(<-s.done, os.RemoveAll(s.tmp))
}

// backend is the disk as the NBD server wants it.
type backend struct{ d *Disk }

var _ nbd.Backend = backend{}

func (b backend) Size() uint64 { return b.d.size }

func (b backend) BlockSize() (minimum, preferred, maximum uint32) {
	return sectorSize, 4096, nbd.MaxRequest
}

func (b backend) ReadAt(_ context.Context, p []byte, at uint64) error { return b.d.readAt(p, at) }

func (b backend) WriteAt(_ context.Context, p []byte, at uint64, fua bool) error {
	b.before(false)
	if err := b.d.writeAt(p, at); err != nil || !fua {
		return err
	}
	// A drive makes this write durable and may leave others; more than was asked for is allowed too.
	return b.d.flush()
}

// Trim does nothing, which it may.
func (b backend) Trim(context.Context, uint64, uint64, bool) error { return nil }

func (b backend) WriteZeroes(ctx context.Context, at, n uint64, flags nbd.ZeroFlags) error {
	if flags&nbd.ZeroFast != 0 {
		return nbd.ErrNotSupported
	}
	zeroes := make([]byte, min(n, 1<<20))
	for n > 0 {
		k := min(n, uint64(len(zeroes)))
		if err := b.WriteAt(ctx, zeroes[:k], at, flags&nbd.ZeroFUA != 0); err != nil {
			return err
		}
		at, n = at+k, n-k
	}
	return nil
}

func (b backend) Flush(context.Context) error {
	b.before(true)
	return b.d.flush()
}

func (b backend) before(flush bool) {
	if b.d.Before != nil {
		b.d.Before(flush)
	}
}

func (b backend) BlockStatus(_ context.Context, _, n uint64, _ bool) ([]nbd.Extent, error) {
	return []nbd.Extent{{Len: n}}, nil
}
