package remote

import (
	"errors"
	"fmt"
	"testing"

	"github.com/cockroachdb/datadriven"

	"github.com/ratchetos/ratchet/plugins/internal/manifest"
)

// TestDecide runs testdata/decide.txt: who may take a volume over.
func TestDecide(t *testing.T) {
	datadriven.RunTest(t, "testdata/decide.txt", func(t *testing.T, d *datadriven.TestData) string {
		const size = 1 << 20
		var l Local
		var head *manifest.Head
		number := func(key string) (n uint64) {
			if d.HasArg(key) {
				d.ScanArgs(t, key, &n)
			}
			return n
		}
		if d.HasArg("disk-epoch") {
			l = Local{Attached: true, Epoch: number("disk-epoch"), Confirmed: number("confirmed"), Durable: number("durable")}
		}
		if d.HasArg("head-epoch") {
			head = &manifest.Head{Size: size, Epoch: number("head-epoch"), Seq: number("seq")}
			d.ScanArgs(t, "owner", &head.Owner)
			if n := number("size"); n != 0 {
				head.Size = int64(n)
			}
		}
		err := decide(l, "us", size, head)
		for name, e := range map[string]error{"fenced": ErrFenced, "diverged": ErrDiverged, "size": ErrSize} {
			if errors.Is(err, e) {
				return fmt.Sprintf("%s: %v\n", name, err)
			}
		}
		if err != nil {
			return "unexpected: " + err.Error()
		}
		return "take over\n"
	})
}
