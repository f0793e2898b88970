package manifest

import (
	"cmp"
	"slices"
)

// table is the objects that the manifest knows, by rising number.
type table struct {
	list  []Object
	dirty map[uint32]bool // parts that have changed
}

func (t *table) index(number uint32) (int, bool) {
	return slices.BinarySearchFunc(t.list, number, func(o Object, n uint32) int { return cmp.Compare(o.Number, n) })
}

func (t *table) find(number uint32) *Object {
	if i, ok := t.index(number); ok {
		return &t.list[i]
	}
	return nil
}

// add takes a new object, which nearly always has the highest number.
func (t *table) add(o Object) {
	i, _ := t.index(o.Number)
	t.list = slices.Insert(t.list, i, o)
	t.touch(o.Number)
}

// use counts n more bytes of an object as live, or fewer.
func (t *table) use(number uint32, n int64) {
	if o := t.find(number); o != nil {
		o.Live = uint32(max(0, int64(o.Live)+n))
		t.touch(number)
	}
}

func (t *table) touch(number uint32) {
	if t.dirty == nil {
		t.dirty = make(map[uint32]bool)
	}
	t.dirty[number/objectsPerPart] = true
}

// part returns the objects of one part.
func (t *table) part(no uint32) []Object {
	first, _ := t.index(no * objectsPerPart)
	end := first
	for end < len(t.list) && t.list[end].Number/objectsPerPart == no {
		end++
	}
	return t.list[first:end]
}
