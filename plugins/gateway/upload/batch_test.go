package upload

import (
	"bytes"
	"fmt"
	"math/bits"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"

	"github.com/ratchetos/ratchet/plugins/internal/log"
	"github.com/ratchetos/ratchet/plugins/internal/manifest"
)

// TestBatch runs testdata/batch.txt: what is left of a run of records. A line is one record, each
// in a group of its own: `write BLOCK COUNT FILL`, `patch BLOCK OFFSET TEXT`, `zero BLOCK COUNT`,
// and `base BLOCK FILL` gives what an unresolved block held before.
func TestBatch(t *testing.T) {
	datadriven.RunTest(t, "testdata/batch.txt", func(t *testing.T, d *datadriven.TestData) string {
		b := New()
		var out strings.Builder
		for seq, line := range strings.Split(d.Input, "\n") {
			r, base, err := parse(line)
			if err != nil {
				t.Fatalf("%s: %v", d.Pos, err)
			}
			if base {
				fmt.Fprintf(&out, "unresolved %v\n", b.Unresolved())
				b.Resolve(uint64(r.Off)/blockSize, r.Data)
				continue
			}
			b.Add(&log.Group{Seq: uint64(seq + 1), Len: 2 * blockSize, Records: []log.Record{r}})
		}
		w := manifest.NewWriter(manifest.KindData, 1, 1, nil)
		packed, err := b.Pack(w)
		if err != nil {
			return err.Error()
		}
		for _, z := range packed.Zeros {
			fmt.Fprintf(&out, "zero %d+%d\n", z.First, z.Count)
		}
		data, o := w.Finish()
		for _, f := range packed.Frames {
			blocks, err := f.Open(data[f.Offset:f.Offset+f.Length], nil, &o, f.Cell)
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(&out, "cell %d:", f.Cell)
			for i := range manifest.BlocksPerCell {
				if f.Blocks&(1<<i) == 0 {
					continue
				}
				n := bits.OnesCount16(f.Blocks&(1<<i-1)) * blockSize
				fmt.Fprintf(&out, " %d=%s", f.Cell*manifest.BlocksPerCell+uint64(i), squeeze(blocks[n:n+blockSize]))
			}
			fmt.Fprintln(&out)
		}
		return out.String()
	})
}

func parse(line string) (r log.Record, base bool, err error) {
	var op, text string
	var block, n int64
	if _, err := fmt.Sscan(line, &op, &block); err != nil {
		return r, false, err
	}
	r.Off = block * blockSize
	switch op {
	case "write":
		_, err = fmt.Sscan(line, &op, &block, &n, &text)
		r.Kind, r.Len, r.Data = log.Write, n*blockSize, bytes.Repeat([]byte(text), int(n)*blockSize)
	case "patch":
		_, err = fmt.Sscan(line, &op, &block, &n, &text)
		r.Kind, r.Off, r.Len, r.Data = log.Patch, r.Off+n, int64(len(text)), []byte(text)
	case "zero":
		_, err = fmt.Sscan(line, &op, &block, &n)
		r.Kind, r.Len = log.Zero, n*blockSize
	case "base":
		_, err = fmt.Sscan(line, &op, &block, &text)
		base, r.Data = true, bytes.Repeat([]byte(text), blockSize)
	default:
		err = fmt.Errorf("record %q", op)
	}
	return r, base, err
}

// squeeze writes runs of equal bytes as the byte and its count, zero bytes as a dot.
func squeeze(p []byte) string {
	var out strings.Builder
	for len(p) > 0 {
		n := 1
		for n < len(p) && p[n] == p[0] {
			n++
		}
		c := string(p[:1])
		if p[0] == 0 {
			c = "."
		}
		fmt.Fprintf(&out, "%s%d", c, n)
		p = p[n:]
	}
	return out.String()
}
