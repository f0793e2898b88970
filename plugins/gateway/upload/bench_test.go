package upload

import (
	"math/rand/v2"
	"syscall"
	"testing"
	"time"

	"github.com/ratchetos/ratchet/plugins/internal/log"
	"github.com/ratchetos/ratchet/plugins/internal/manifest"
)

// words fills p with text of a small vocabulary, which compresses about as well as file systems and logs do.
func words(p []byte, r *rand.Rand) {
	list := []string{"volume ", "gateway ", "0x%08x ", "static int ", "return err\n", "the ", "of a ", "\t\t", "{}", "=", "1970-01-01 "}
	for n := 0; n < len(p); {
		if r.IntN(4) == 0 {
			p[n] = byte('a' + r.IntN(26))
			n++
			continue
		}
		n += copy(p[n:], list[r.IntN(len(list))])
	}
}

// cpu is the time that this process has used, which other processes do not stretch.
func cpu() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u) // cannot fail
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkPack measures the CPU time of an upload up to the object, with hashes and compression. One
// operation is a batch of 8 MiB of random 4 KiB writes, or of one long run of 1 MiB writes.
func BenchmarkPack(b *testing.B) {
	const size, volume = 8 << 20, 16 << 30
	secret := make([]byte, manifest.KeySize)
	sealer, err := manifest.NewSealer(secret, manifest.Tag{})
	if err != nil {
		b.Fatal(err)
	}
	for _, content := range []string{"text", "noise"} {
		for _, pattern := range []string{"random", "sequential"} {
			for _, s := range []*manifest.Sealer{nil, sealer} {
				name := content + "/" + pattern
				if s != nil {
					name += "/sealed"
				}
				b.Run(name, func(b *testing.B) {
					r := rand.New(rand.NewPCG(1, 2))
					data := make([]byte, size)
					if content == "text" {
						words(data, r)
					} else {
						_, _ = rand.NewChaCha8([32]byte{}).Read(data) // never fails
					}
					var groups []log.Group
					step := blockSize
					if pattern == "sequential" {
						step = 1 << 20
					}
					for off := 0; off < size; off += step {
						at := int64(off)
						if pattern == "random" {
							at = r.Int64N(volume/blockSize) * blockSize
						}
						groups = append(groups, log.Group{Seq: uint64(off), Len: int64(step), Records: []log.Record{
							{Kind: log.Write, Off: at, Len: int64(step), Data: data[off : off+step]},
						}})
					}
					var buf []byte
					var out int
					b.SetBytes(size)
					b.ReportAllocs()
					before, n := cpu(), 0
					for b.Loop() {
						n++
						batch := New()
						for i := range groups {
							batch.Add(&groups[i])
						}
						w := manifest.NewWriter(manifest.KindData, 1, 1, s)
						w.Reuse(buf)
						if _, err := batch.Pack(w); err != nil {
							b.Fatal(err)
						}
						buf, _ = w.Finish()
						out = len(buf)
						batch.Free()
					}
					b.ReportMetric(float64(out)/size, "stored/written")
					b.ReportMetric(float64(cpu()-before)/1e3/float64(n)/(size>>20), "cpu-us/MiB")
				})
			}
		}
	}
}
