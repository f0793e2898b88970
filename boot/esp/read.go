package esp

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
)

// ErrForeign says that a partition is not laid out by this package: empty, torn, or altered.
var ErrForeign = errors.New("not an image slot of ours")

// Image is what a slot holds.
type Image struct {
	Volume Volume
	Length int64
	SHA256 [sha256.Size]byte
}

// Find reads the layout of the partition r of size bytes and returns its file. Everything that leads to the file
// is compared byte by byte with what Write would have made; a difference is ErrForeign. Other errors are r's.
func Find(r io.ReaderAt, size int64) (*io.SectionReader, Volume, error) {
	v := Volume{Size: size}
	g, err := v.geometry()
	if err != nil {
		return nil, v, fmt.Errorf("%w: %w", ErrForeign, err)
	}
	le := binary.LittleEndian
	boot, err := read(r, 0, sector)
	if err != nil {
		return nil, v, err
	}
	folder, err := read(r, g.cluster(bootCluster), 3*32) // ".", "..", the file
	if err != nil {
		return nil, v, err
	}
	// The three values that a layout depends on are taken as they are; the comparison judges them.
	v.Hidden = le.Uint32(boot[28:])
	v.Label = strings.TrimRight(string(boot[71:71+labelLength]), " ")
	p, err := v.lay(int64(le.Uint32(folder[2*32+28:])))
	if err != nil {
		return nil, v, fmt.Errorf("%w: %w", ErrForeign, err)
	}
	for _, e := range append([]extent{{0, p.boot}}, p.rest...) {
		if err := same(r, e); err != nil {
			return nil, v, err
		}
	}
	return io.NewSectionReader(r, p.fileAt(), p.n), v, nil
}

// Read reads the whole slot r of size bytes. Errors: ErrForeign, or r's.
func Read(r io.ReaderAt, size int64) (Image, error) {
	file, v, err := Find(r, size)
	if err != nil {
		return Image{}, err
	}
	i := Image{Volume: v, Length: file.Size()}
	i.SHA256, err = Sum(file)
	return i, err
}

func same(r io.ReaderAt, e extent) error {
	for at := 0; at < len(e.data); at += chunk {
		want := e.data[at:min(at+chunk, len(e.data))]
		got, err := read(r, e.at+int64(at), len(want))
		if err != nil {
			return err
		}
		if !bytes.Equal(got, want) {
			return fmt.Errorf("%w: the file system at %d differs", ErrForeign, e.at+int64(at))
		}
	}
	return nil
}

func read(r io.ReaderAt, at int64, n int) ([]byte, error) {
	b := make([]byte, n)
	if got, err := r.ReadAt(b, at); got < n {
		if err == nil || errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, fmt.Errorf("read slot at %d: %w", at, err)
	}
	return b, nil
}
