package dir

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// An object of at most hashedSize bytes has the SHA-256 of its content for an etag. That needs nothing but the content, so
// gateways of every version, and copies of the directory, agree about a volume's head, which is such an object.
//
// Hashing the large ones, which are written once and whose etag hardly anybody looks at, would be a seventh of an upload's CPU
// time. Their file gets a random generation instead, an extended attribute that is set before the file has a name and never
// changed. The etag is the generation, the file's time and its size: a put makes a new file and so a new generation, also
// of the same content in the same moment; a program that writes into the file changes its time, and one that puts a file of its own
// in place brings no generation, or that of the bytes it copied. Where there is no generation, because the file system
// keeps no attributes or somebody has copied without them, the etag is the hash after all.
const hashedSize = 64 << 10

// generationAttr holds a generation. A value of another length is not ours and counts as none.
const (
	generationAttr = "user.ratchet.generation"
	generationSize = 16
)

// mark gives a new file a generation, if the file system keeps one. Without it the etag is right, too, and a disk
// that fails will fail to write.
func (s *Store) mark(f *os.File) {
	var generation [generationSize]byte
	_, _ = rand.Read(generation[:]) // never fails since Go 1.24
	_ = s.setAttr(int(f.Fd()), generationAttr, generation[:], unix.XATTR_CREATE)
}

// etag returns that of an open object. The file's bytes never change, so it is that of whatever is read from f. content is
// all of it, nil if it is not at hand. The data must have been synced: on network file systems a file's time is final only then.
func etag(f *os.File, content []byte) (string, error) {
	st, err := f.Stat()
	if err != nil {
		return "", err
	}
	if st.Size() > hashedSize {
		var g [generationSize + 1]byte // a byte more than ours shows a longer one
		n, err := unix.Fgetxattr(int(f.Fd()), generationAttr, g[:])
		if err == nil && n == generationSize {
			e := binary.BigEndian.AppendUint64(g[:n], uint64(st.ModTime().UnixNano()))
			return "g" + hex.EncodeToString(binary.BigEndian.AppendUint64(e, uint64(st.Size()))), nil
		}
	}
	var r io.Reader = io.NewSectionReader(f, 0, st.Size())
	if content != nil {
		r = bytes.NewReader(content)
	}
	h := sha256.New()
	if _, err := io.Copy(h, r); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
