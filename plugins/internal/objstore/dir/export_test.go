package dir

import "golang.org/x/sys/unix"

// GenerationAttr is the attribute that holds a large object's generation.
const GenerationAttr = generationAttr

// WithoutAttributes makes the store behave as on a file system that keeps no extended attributes.
func (s *Store) WithoutAttributes() *Store {
	s.setAttr = func(int, string, []byte, int) error { return unix.ENOTSUP }
	return s
}
