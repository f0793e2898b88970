package volume

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"sync"

	"github.com/ratchetos/ratchet/plugins/gateway/nbd"
	"github.com/ratchetos/ratchet/plugins/gateway/nbd/nbdtest"
)

// port is how a client of a crash test reaches the volume: as a caller of the package, or over the wire.
type port interface {
	write(ctx context.Context, p []byte, off int64, durable bool) error
	zero(ctx context.Context, off, n int64, durable bool) error
	read(ctx context.Context, p []byte, off int64) error
	flush(ctx context.Context) error
}

type direct struct{ v *Volume }

func (d direct) write(ctx context.Context, p []byte, off int64, durable bool) error {
	if !durable && d.v.TryWriteAt(p, off) {
		return nil
	}
	return d.v.WriteAt(ctx, p, off, durable)
}

func (d direct) zero(ctx context.Context, off, n int64, durable bool) error {
	return d.v.Zero(ctx, off, n, durable)
}

func (d direct) read(ctx context.Context, p []byte, off int64) error {
	if d.v.TryReadAt(p, off) {
		return nil
	}
	return d.v.ReadAt(ctx, p, off)
}

func (d direct) flush(ctx context.Context) error { return d.v.Flush(ctx) }

// wire is a connection to the real NBD server.
type wire struct{ c *nbdtest.Client }

func (w wire) write(_ context.Context, p []byte, off int64, durable bool) error {
	return w.c.Write(uint64(off), p, durable)
}

func (w wire) zero(_ context.Context, off, n int64, durable bool) error {
	r := nbdtest.Request{Cmd: uint16(nbd.CmdWriteZeroes), Off: uint64(off), Len: uint32(n)}
	if durable {
		r.Flags = fua
	}
	_, err := w.c.Do(r)
	return err
}

const fua = 1 // NBD_CMD_FLAG_FUA

func (w wire) read(_ context.Context, p []byte, off int64) error {
	got, err := w.c.Read(uint64(off), uint32(len(p)))
	copy(p, got)
	return err
}

func (w wire) flush(context.Context) error { return w.c.Flush() }

// backend is the volume as the server sees it.
type backend struct{ v *Volume }

var (
	_ nbd.FastReader = backend{}
	_ nbd.FastWriter = backend{}
)

func (b backend) Size() uint64                         { return uint64(b.v.Size()) }
func (b backend) BlockSize() (uint32, uint32, uint32)  { return 1, blockSize, nbd.MaxRequest }
func (b backend) TryReadAt(p []byte, off uint64) bool  { return b.v.TryReadAt(p, int64(off)) }
func (b backend) TryWriteAt(p []byte, off uint64) bool { return b.v.TryWriteAt(p, int64(off)) }
func (b backend) Flush(ctx context.Context) error      { return b.v.Flush(ctx) }

func (b backend) ReadAt(ctx context.Context, p []byte, off uint64) error {
	return b.v.ReadAt(ctx, p, int64(off))
}

func (b backend) WriteAt(ctx context.Context, p []byte, off uint64, fua bool) error {
	return b.v.WriteAt(ctx, p, int64(off), fua)
}

func (b backend) Trim(ctx context.Context, off, n uint64, fua bool) error {
	return b.v.Trim(ctx, int64(off), int64(n), fua)
}

func (b backend) WriteZeroes(ctx context.Context, off, n uint64, flags nbd.ZeroFlags) error {
	return b.v.Zero(ctx, int64(off), int64(n), flags&nbd.ZeroFUA != 0)
}

func (b backend) BlockStatus(_ context.Context, _, n uint64, _ bool) ([]nbd.Extent, error) {
	return []nbd.Extent{{Len: n}}, nil
}

// serve runs the NBD server on the volume and returns a connection for each of n clients. end disconnects them.
func serve(ctx context.Context, v *Volume, n int) (ports []port, end func(), err error) {
	dir, err := os.MkdirTemp("", "nbd")
	if err != nil {
		return nil, nil, err
	}
	l, err := net.Listen("unix", filepath.Join(dir, "s"))
	if err != nil {
		return nil, nil, err
	}
	set := &nbd.Set{}
	if err := set.Add(&nbd.Export{Name: "v", Backend: backend{v}}); err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	var serving sync.WaitGroup
	serving.Go(func() { _ = (&nbd.Server{Exports: set}).Serve(ctx, l) })
	var clients []*nbdtest.Client
	end = func() {
		for _, c := range clients {
			c.Abandon()
		}
		cancel()
		serving.Wait()
		_ = os.RemoveAll(dir)
	}
	for range n {
		c, err := nbdtest.Dial(ctx, "unix", l.Addr().String(), "v", nbdtest.Options{})
		if err != nil {
			end()
			return nil, nil, err
		}
		clients = append(clients, c)
		ports = append(ports, wire{c})
	}
	return ports, end, nil
}
