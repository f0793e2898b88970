package bench

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/ratchetos/ratchet/image/builder"
	"github.com/ratchetos/ratchet/image/initramfs"
)

const (
	mib = 1 << 20
	mb  = 1e6

	levelRuns   = 3
	rebuildRuns = 3
)

// levels that differ enough to be a choice.
var levels = []initramfs.Level{1, 3, 4}

// image measures sizes and the time of a build.
func (s *session) image(ctx context.Context) error {
	for _, f := range []struct{ flavour, goal string }{{"cloud", "<= 26"}, {"full", "<= 24"}} {
		m, err := s.build(ctx, f.flavour)
		if err != nil {
			return err
		}
		s.figures.Record("image.uki_"+f.flavour, Figure{Value: float64(m.Sizes.UKI) / mib, Unit: "MiB", Goal: f.goal})
		s.figures.Record("image.initramfs_raw_"+f.flavour, Figure{Value: float64(m.Sizes.InitramfsRaw) / mib, Unit: "MiB"})
	}
	s.figures.Record("image.binary", Figure{Value: float64(s.built["full"].Sizes.Binary) / mb, Unit: "MB", Goal: "<= 48"})
	if err := s.levels(); err != nil {
		return err
	}
	return s.rebuild(ctx)
}

// levels compresses the initramfs of the full image at each level. The time is that of the archive with the
// binary, which a change of code compresses anew; the other one comes from a cache. The size is that of both.
func (s *session) levels() error {
	initrd, err := os.ReadFile(filepath.Join(s.imageDir("full"), builder.InitrdFile))
	if err != nil {
		return err
	}
	archives, err := initramfs.Archives(initrd)
	if err != nil {
		return err
	}
	if len(archives) != 2 {
		return fmt.Errorf("compress initramfs: it has %d archives, want modules and system", len(archives))
	}
	s.note("compress the initramfs at %d levels", len(levels))
	seconds, size := make([][]float64, len(levels)), make([]int, len(levels))
	for run := range levelRuns {
		for i, level := range levels {
			start := time.Now()
			system, err := initramfs.Cache{}.Compress(archives[1], level)
			if err != nil {
				return err
			}
			seconds[i] = append(seconds[i], time.Since(start).Seconds())
			if run > 0 {
				continue // the size is the same every time
			}
			modules, err := initramfs.Cache{}.Compress(archives[0], level)
			if err != nil {
				return err
			}
			size[i] = len(modules) + len(system)
		}
	}
	for i, level := range levels {
		name := fmt.Sprintf("image.zstd%d_", level)
		s.figures.Record(name+"time", Figure{Value: Median(seconds[i]), Unit: "s", N: levelRuns})
		s.figures.Record(name+"initramfs", Figure{Value: float64(size[i]) / mib, Unit: "MiB"})
	}
	return nil
}

// rebuild times the whole build command after one line of a plugin has changed.
func (s *session) rebuild(ctx context.Context) error {
	tree, err := s.folder("tree")
	if err != nil {
		return err
	}
	if err := copyTracked(ctx, tree, s.source.Root); err != nil {
		return err
	}
	out := filepath.Join(s.Dir, "image", "rebuilt")
	digest := ""
	var seconds []float64
	for run := range rebuildRuns + 1 {
		if run > 0 {
			s.note("change one line of a plugin and build (%d of %d)", run, rebuildRuns)
			if err := editPlugin(tree, run); err != nil {
				return err
			}
		} else {
			s.note("build a copy of the tree, to warm the caches")
		}
		start := time.Now()
		cmd := exec.CommandContext(ctx, "go", "run", "./image", "build", "--flavour", "full", "--version", s.source.Version, "--out", out)
		cmd.Dir = tree
		if text, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("build the copy in %s: %w\n%s", tree, err, text)
		}
		elapsed := time.Since(start).Seconds()
		m, err := builder.ReadManifest(filepath.Join(out, builder.ManifestFile))
		if err != nil {
			return err
		}
		if m.SHA256[builder.InitrdFile] == digest {
			return fmt.Errorf("build the copy: the changed line did not reach the image")
		}
		digest = m.SHA256[builder.InitrdFile]
		if run > 0 {
			seconds = append(seconds, elapsed)
		}
	}
	s.figures.Record("image.rebuild_one_line", Figure{Value: Median(seconds), Unit: "s", Goal: "<= 15", N: rebuildRuns})
	return nil
}
