package flash

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"
)

// chunk is the unit of reading, writing and comparing.
const chunk = 1 << 20

// Source is a disk image in a file: raw, whose holes are known to the filesystem, or compressed (.zst).
type Source struct {
	path string
	// Size of the disk that the image is of, in bytes.
	Size       int64
	compressed bool
	table      table
}

// OpenSource reads an image's table and size, so that one that was cut off is found before any disk is touched. A
// compressed image is decompressed once for that, which finds a damaged one as well.
func OpenSource(ctx context.Context, path string) (*Source, error) {
	s := &Source{path: path, compressed: strings.HasSuffix(path, ".zst")}
	head := &bytes.Buffer{}
	var err error
	if s.compressed {
		err = s.stream(ctx, func(at int64, b []byte) error {
			if head.Len() < tableEnd {
				head.Write(b)
			}
			s.Size = at + int64(len(b))
			return nil
		})
	} else {
		err = s.readHead(head)
	}
	if err != nil {
		return nil, fmt.Errorf("read image %s: %w", path, err)
	}
	if s.table, err = parseTable(head.Bytes()); err != nil {
		return nil, fmt.Errorf("%s is not a disk image of an appliance: %w", path, err)
	}
	if s.table.partition(ledgerName) == nil {
		return nil, fmt.Errorf("%s is not a disk image of an appliance: it has no partition %s", path, ledgerName)
	}
	if whole := s.table.size(); s.Size < whole {
		return nil, fmt.Errorf("%s was cut off: it has %d of %d MiB; copy it again", path, s.Size>>20, whole>>20)
	}
	return s, nil
}

func (s *Source) readHead(head io.Writer) error {
	f, err := os.Open(s.path)
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	s.Size = st.Size()
	_, err = io.CopyN(head, f, tableEnd)
	if errors.Is(err, io.EOF) {
		return errors.New("it is too short for a partition table")
	}
	return err
}

// Each calls f with the image's data in order, in pieces of at most a chunk; what lies between is zeros.
func (s *Source) Each(ctx context.Context, f func(at int64, b []byte) error) error {
	if !s.compressed {
		return s.extents(ctx, f)
	}
	return s.stream(ctx, func(at int64, b []byte) error {
		if zero(b) {
			return nil
		}
		return f(at, b)
	})
}

// stream decompresses the image and gives all of it.
func (s *Source) stream(ctx context.Context, f func(at int64, b []byte) error) error {
	file, err := os.Open(s.path)
	if err != nil {
		return err
	}
	defer file.Close()
	z, err := zstd.NewReader(bufio.NewReaderSize(file, chunk), zstd.WithDecoderMaxMemory(256<<20), zstd.WithDecoderConcurrency(2))
	if err != nil {
		return err
	}
	defer z.Close()
	b := make([]byte, chunk)
	for at := int64(0); ; {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := io.ReadFull(z, b)
		if n > 0 {
			if err := f(at, b[:n]); err != nil {
				return err
			}
			at += int64(n)
		}
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF) && n > 0 && s.ended(z):
			return nil
		case err != nil:
			return fmt.Errorf("decompress at %d: %w", at, err)
		}
	}
}

// ended tells the end of the data from that of a file that was cut off, which io.ReadFull reports alike.
func (s *Source) ended(z io.Reader) bool {
	_, err := z.Read(make([]byte, 1))
	return errors.Is(err, io.EOF)
}

// extents asks the filesystem where the file has data.
func (s *Source) extents(ctx context.Context, f func(at int64, b []byte) error) error {
	file, err := os.Open(s.path)
	if err != nil {
		return err
	}
	defer file.Close()
	b := make([]byte, chunk)
	for at := int64(0); at < s.Size; {
		start, err := unix.Seek(int(file.Fd()), at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			return nil // nothing but a hole up to the end
		}
		end := s.Size
		if err == nil {
			end, err = unix.Seek(int(file.Fd()), start, unix.SEEK_HOLE)
		}
		if err != nil {
			return fmt.Errorf("find data: %w", err)
		}
		for at = start; at < end; {
			if err := ctx.Err(); err != nil {
				return err
			}
			n := min(int64(len(b)), end-at)
			if _, err := file.ReadAt(b[:n], at); err != nil {
				return err
			}
			if err := f(at, b[:n]); err != nil {
				return err
			}
			at += n
		}
	}
	return nil
}

// zeros is compared with; it is memory that nothing writes to, so it costs none.
var zeros [chunk]byte

func zero(b []byte) bool {
	for len(b) > chunk {
		if !bytes.Equal(b[:chunk], zeros[:]) {
			return false
		}
		b = b[chunk:]
	}
	return bytes.Equal(b, zeros[:len(b)])
}
