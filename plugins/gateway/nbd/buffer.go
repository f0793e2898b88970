package nbd

import (
	"math/bits"
	"sync"
)

const (
	minClass = 12 // 4 KiB
	maxClass = 25 // 32 MiB, MaxRequest

	// headroom is for the headers in front of a power of two of data: of one reply, and of the 32 of 4 KiB that a client
	// with so many requests under way waits for, so that they leave in one write.
	headroom = 1 << 10
)

// buffer is a pooled piece of memory: a request's data, or replies on their way out.
type buffer struct {
	b     []byte
	class int
}

// pools holds free buffers by size class. It is shared by all servers of the process, so that
// idle volumes lend their memory to busy ones; the garbage collector empties it.
var pools [maxClass + 1]sync.Pool

// getBuffer returns a buffer with b of length n, at most MaxRequest plus a header. Its
// content is whatever was there before.
func getBuffer(n int) *buffer {
	class := max(minClass, bits.Len(uint(max(n-headroom, 1)-1)))
	if v := pools[class].Get(); v != nil {
		buf := v.(*buffer)
		buf.b = buf.b[:n]
		return buf
	}
	return &buffer{b: make([]byte, n, 1<<class+headroom), class: class}
}

func (b *buffer) free() {
	if b != nil {
		pools[b.class].Put(b)
	}
}
