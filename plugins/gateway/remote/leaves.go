package remote

import (
	"container/list"
	"sync"

	"golang.org/x/sync/singleflight"

	"github.com/ratchetos/ratchet/plugins/internal/manifest"
)

// leafCache keeps encoded leaves, the most recently used ones within its limit. They never change: a leaf that is
// replaced lies elsewhere.
type leafCache struct {
	limit   int64
	flights singleflight.Group

	mu    sync.Mutex
	size  int64
	order list.List // of *cachedLeaf, the most recently used first
	index map[leafKey]*list.Element
}

type leafKey struct{ object, offset uint32 }

type cachedLeaf struct {
	key  leafKey
	data []byte
}

func keyOf(ref *manifest.LeafRef) leafKey { return leafKey{ref.Object, ref.Offset} }

func (c *leafCache) get(ref *manifest.LeafRef) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.index[keyOf(ref)]
	if e == nil {
		return nil
	}
	c.order.MoveToFront(e)
	return e.Value.(*cachedLeaf).data
}

// replace puts a leaf into the place of an old one, if that is here: it is looked at as often.
func (c *leafCache) replace(old, ref *manifest.LeafRef, data []byte) {
	c.mu.Lock()
	e := c.index[keyOf(old)]
	if e != nil {
		c.drop(e)
	}
	c.mu.Unlock()
	if e != nil {
		c.put(ref, data)
	}
}

// drop forgets a leaf. The caller holds mu.
func (c *leafCache) drop(e *list.Element) {
	l := c.order.Remove(e).(*cachedLeaf)
	delete(c.index, l.key)
	c.size -= int64(len(l.data))
}

func (c *leafCache) put(ref *manifest.LeafRef, data []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.index == nil {
		c.index = make(map[leafKey]*list.Element)
	}
	key := keyOf(ref)
	if c.index[key] != nil {
		return
	}
	c.index[key] = c.order.PushFront(&cachedLeaf{key, data})
	c.size += int64(len(data))
	for c.size > c.limit && c.order.Len() > 1 {
		c.drop(c.order.Back())
	}
}
