package log_test

import (
	"io"
	"testing"

	"github.com/ratchetos/ratchet/plugins/internal/log"
)

// BenchmarkRecover opens a log whose checkpoint is as old as CheckpointDue lets it become, of the
// smallest groups and of the largest: the longest that a volume can take to come back.
func BenchmarkRecover(b *testing.B) {
	for name, group := range map[string]int64{"small groups": log.BlockSize, "large groups": 1 << 20} {
		b.Run(name, func(b *testing.B) {
			path := benchFile(b, 2<<30)
			w := benchWriter{l: benchOpen(b, path)}
			data := make([]byte, group)
			for !w.l.CheckpointDue(0) {
				if err := w.write(b.Context(), log.Record{Kind: log.Write, Len: group, Data: data}); err != nil {
					b.Fatal(err)
				}
				if err := w.l.FlushTo(b.Context(), w.l.Head()); err != nil {
					b.Fatal(err)
				}
			}
			for b.Loop() {
				d := benchDisk(b, path)
				l, err := log.Open(d, log.Options{})
				if err != nil {
					b.Fatal(err)
				}
				groups := 0
				if err := l.Recover(func(io.Reader, log.Cursor) error { return nil }, func(*log.Group) error { groups++; return nil }); err != nil {
					b.Fatal(err)
				}
				b.ReportMetric(float64(groups), "groups")
			}
		})
	}
}
