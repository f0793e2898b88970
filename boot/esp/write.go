package esp

import (
	"fmt"
	"io"
)

// chunk is how much is written and read at a time: few calls, and a multiple of any cluster and block.
const chunk = 1 << 20

// syncer is a medium that can be told to be durable.
type syncer interface{ Sync() error }

// Write makes the partition w a slot that holds the n bytes of uki. It fails with ErrTooLarge before it changes
// anything, and with io.ErrUnexpectedEOF, leaving a slot that does not start, when uki is shorter.
func Write(w io.WriterAt, v Volume, uki io.Reader, n int64) error {
	p, err := v.lay(n)
	if err != nil {
		return err
	}
	put := func(data []byte, at int64) error {
		if _, err := w.WriteAt(data, at); err != nil {
			return fmt.Errorf("write slot at %d: %w", at, err)
		}
		return nil
	}
	sync := func() error {
		if s, ok := w.(syncer); ok {
			return s.Sync()
		}
		return nil
	}
	// From here until the last step no firmware finds a program here.
	none := make([]byte, sector)
	for _, at := range []int64{0, backupAt * sector} {
		if err := put(none, at); err != nil {
			return err
		}
	}
	if err := sync(); err != nil {
		return err
	}
	if err := writeFile(put, p, uki); err != nil {
		return err
	}
	for _, e := range p.rest {
		if err := put(e.data, e.at); err != nil {
			return err
		}
	}
	if err := sync(); err != nil {
		return err
	}
	if err := put(p.boot, 0); err != nil {
		return err
	}
	return sync()
}

// writeFile writes the file; its last cluster is padded with zeros, so that the same file makes the same slot.
func writeFile(put func([]byte, int64) error, p *plan, uki io.Reader) error {
	buf := make([]byte, chunk+p.clusterSize())
	for at, n := int64(0), int64(0); at < p.n; at += n {
		// Up to a boundary of the partition: a block that is written in two halves is read in between.
		n = min(p.n-at, chunk-(p.fileAt()+at)%chunk)
		if _, err := io.ReadFull(uki, buf[:n]); err != nil {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return fmt.Errorf("read image at %d of %d: %w", at, p.n, err)
		}
		whole := n
		if at+n == p.n {
			whole = (n + p.clusterSize() - 1) / p.clusterSize() * p.clusterSize()
			clear(buf[n:whole])
		}
		if err := put(buf[:whole], p.fileAt()+at); err != nil {
			return err
		}
	}
	return nil
}
