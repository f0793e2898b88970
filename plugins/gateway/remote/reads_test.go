package remote

import (
	"errors"
	"slices"
	"testing"

	"github.com/ratchetos/ratchet/plugins/internal/manifest"
)

func TestRuns(t *testing.T) {
	at := func(object, offset, length uint32) *portion {
		return &portion{piece: piece{Frame: manifest.Frame{Object: object, Offset: offset, Length: length}}}
	}
	for _, c := range []struct {
		name string
		list []*portion
		gets [][3]uint32 // object, offset, number of portions
	}{
		{"none", nil, nil},
		{"one", []*portion{at(1, 0, 100)}, [][3]uint32{{1, 0, 1}}},
		{"neighbours in any order", []*portion{at(1, 200, 100), at(1, 0, 100), at(1, 100, 100)}, [][3]uint32{{1, 0, 3}}},
		{"the widest gap", []*portion{at(1, 0, 100), at(1, 100+maxGap, 100)}, [][3]uint32{{1, 0, 2}}},
		{"one byte more", []*portion{at(1, 0, 100), at(1, 101+maxGap, 100)}, [][3]uint32{{1, 0, 1}, {1, 101 + maxGap, 1}}},
		{"two objects", []*portion{at(2, 0, 100), at(1, 100, 100), at(2, 100, 100)}, [][3]uint32{{1, 100, 1}, {2, 0, 2}}},
		{"the longest", []*portion{at(1, 0, maxRun/2), at(1, maxRun/2, maxRun/2), at(1, maxRun, 1)}, [][3]uint32{{1, 0, 2}, {1, maxRun, 1}}},
		{"at the end of what an object can hold", []*portion{at(1, 1<<32-200, 100), at(1, 1<<32-100, 99)}, [][3]uint32{{1, 1<<32 - 200, 2}}},
		{"one within another", []*portion{at(1, 0, 100), at(1, 10, 20), at(1, 40, 10)}, [][3]uint32{{1, 0, 1}, {1, 10, 2}}},
		{"one over another's end", []*portion{at(1, 0, 100), at(1, 99, 100)}, [][3]uint32{{1, 0, 1}, {1, 99, 1}}},
		{"twice the same", []*portion{at(1, 0, 100), at(1, 0, 100)}, [][3]uint32{{1, 0, 1}, {1, 0, 1}}},
	} {
		before := slices.Clone(c.list)
		var got [][3]uint32
		for _, run := range runs(c.list) {
			got = append(got, [3]uint32{run[0].Object, run[0].Offset, uint32(len(run))})
		}
		if !slices.Equal(got, c.gets) {
			t.Errorf("%s: %v, want %v", c.name, got, c.gets)
		}
		if !slices.Equal(c.list, before) {
			t.Errorf("%s: the list has changed", c.name)
		}
	}
}

// TestOverlap: a manifest that says that one frame lies within another is damage, and nothing else.
func TestOverlap(t *testing.T) {
	s := testStore(t)
	r := attach(t, s, "us", Local{})
	b := batch(t, r, 1, 1, 1)
	within := b.Frames[0]
	within.Offset, within.Length = within.Offset+1, within.Length-10
	within.Blocks, within.Live = 2, 2
	b.Frames = append(b.Frames, within)
	if err := r.Commit(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	again := attach(t, s, "us", Local{Attached: true, Epoch: r.Head().Epoch, Confirmed: 1, Durable: 1})
	if _, _, _, err := again.Cell(t.Context(), 1); !errors.Is(err, ErrCorrupt) {
		t.Errorf("got %v, want ErrCorrupt", err)
	}
}
