package bundle

import (
	"archive/tar"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
)

// Reader reads a bundle in one pass: Open, then UKI to its end.
type Reader struct {
	Manifest Manifest
	members
	offset int64
}

// members reads a tar of known files in a known order.
type members struct {
	in  *counting
	tar *tar.Reader
	// whole is how long a bundle with the members so far is: each has a header and is padded to blocks.
	whole int64
}

func read(r io.Reader) members {
	in := &counting{Reader: r}
	return members{in: in, tar: tar.NewReader(in), whole: 2 * block} // the end marker
}

// signed reads the first two members: a manifest, and its signature by one of the keys.
func (b *members) signed(keys Keys) ([]byte, error) {
	manifest, err := b.small(manifestName, maxManifest)
	if err != nil {
		return nil, err
	}
	signature, err := b.small(signatureName, maxSignature)
	if err != nil {
		return nil, err
	}
	if !keys.verify(manifest, signature) {
		return nil, ErrSigner
	}
	return manifest, nil
}

// file goes to the member that a manifest vouches for.
func (b *members) file(name string, want File) (*verifier, error) {
	h, err := b.next(name)
	if err != nil {
		return nil, err
	}
	if h.Size != want.Length {
		return nil, damaged("%s has %d bytes, the manifest says %d", name, h.Size, want.Length)
	}
	return newVerifier(b.tar, want), nil
}

// counting counts what was read of a bundle: a tar reader is content with a file that lacks its end marker.
type counting struct {
	io.Reader
	n int64
}

func (c *counting) Read(b []byte) (int, error) {
	n, err := c.Reader.Read(b)
	c.n += int64(n)
	return n, err
}

const block = 512

// Open reads and verifies manifest and signature. Errors: ErrSigner, ErrDamaged, or r's.
func Open(r io.Reader, keys Keys) (*Reader, error) {
	b := &Reader{members: read(r)}
	manifest, err := b.signed(keys)
	if err != nil {
		return nil, err
	}
	b.Manifest, err = ParseManifest(manifest)
	return b, err
}

// UKI gives the image after reading the SBOM before it. Its reader returns io.EOF only when the whole bundle is as
// the manifest says.
func (b *Reader) UKI() (io.Reader, error) {
	sbom, err := b.file(sbomName, b.Manifest.SBOM)
	if err != nil {
		return nil, err
	}
	if _, err = io.Copy(io.Discard, sbom); err != nil {
		return nil, fmt.Errorf("%s: %w", sbomName, cut(err))
	}
	v, err := b.file(ukiName, b.Manifest.UKI)
	if err != nil {
		return nil, err
	}
	v.end, b.offset = b.end, b.in.n
	return v, nil
}

// Offset is where the image starts in the bundle, once UKI was called: whoever has verified the whole file may read it
// there again.
func (b *Reader) Offset() int64 { return b.offset }

// next goes to the member that must come now.
func (b *members) next(name string) (*tar.Header, error) {
	h, err := b.tar.Next()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, cut(err))
	}
	// Only plain files by plain names: no extension record may say otherwise later.
	if h.Name != name || h.Typeflag != tar.TypeReg || h.Format != tar.FormatUSTAR {
		return nil, damaged("%q is where %s should be", h.Name, name)
	}
	b.whole += block + (h.Size+block-1)/block*block
	return h, nil
}

func (b *members) small(name string, limit int64) ([]byte, error) {
	h, err := b.next(name)
	if err != nil {
		return nil, err
	}
	if h.Size > limit {
		return nil, damaged("%s has %d bytes, at most %d", name, h.Size, limit)
	}
	data, err := io.ReadAll(b.tar)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, cut(err))
	}
	return data, nil
}

// end reads the end marker, and nothing must follow it.
func (b *members) end() error {
	switch h, err := b.tar.Next(); {
	case err == nil:
		return damaged("%q follows the image", h.Name)
	case !errors.Is(err, io.EOF):
		return cut(err)
	}
	if _, err := io.ReadFull(b.in, make([]byte, 1)); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if b.in.n != b.whole {
		return damaged("%d bytes, its members make %d", b.in.n, b.whole)
	}
	return nil
}

func damaged(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrDamaged}, args...)...)
}

// cut turns what the tar reader says of a file that ends early, or is no tar, into ErrDamaged.
func cut(err error) error {
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return damaged("it was cut off")
	case errors.Is(err, tar.ErrHeader), errors.Is(err, tar.ErrFieldTooLong), errors.Is(err, tar.ErrInsecurePath):
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return err
}

// verifier passes a file on and compares it at its end.
type verifier struct {
	r    io.Reader
	want File
	hash hash.Hash
	n    int64
	end  func() error // asked before io.EOF
	err  error        // sticky
}

func newVerifier(r io.Reader, want File) *verifier {
	return &verifier{r: r, want: want, hash: sha256.New()}
}

// Read implements io.Reader.
func (v *verifier) Read(b []byte) (int, error) {
	if v.err != nil {
		return 0, v.err
	}
	n, err := v.r.Read(b)
	v.hash.Write(b[:n])
	v.n += int64(n)
	switch {
	case v.n > v.want.Length:
		v.err = damaged("more than the %d bytes that the manifest says", v.want.Length)
		return 0, v.err
	case errors.Is(err, io.EOF):
		v.err = v.done()
		return n, v.err
	case err != nil:
		v.err = cut(err)
		return n, v.err
	}
	return n, nil
}

// done is io.EOF when all is as it should be.
func (v *verifier) done() error {
	switch {
	case v.n < v.want.Length:
		return damaged("%d of %d bytes", v.n, v.want.Length)
	case Digest(v.hash.Sum(nil)) != v.want.SHA256:
		return damaged("the digest is not the one in the manifest")
	}
	if v.end != nil {
		if err := v.end(); err != nil {
			return err
		}
	}
	return io.EOF
}
