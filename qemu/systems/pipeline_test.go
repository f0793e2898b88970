package systems

import (
	"fmt"
	"math"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/ratchetos/ratchet/core/pipeline"
	"github.com/ratchetos/ratchet/core/pipeline/sim"
	"github.com/ratchetos/ratchet/core/pipeline/trial"
	"github.com/ratchetos/ratchet/qemu/box"
	"github.com/ratchetos/ratchet/qemu/vm"
)

// TestSystemPipeline holds the allocator of pipelines against every fixed split, the simulator that does so against real work, and
// looks at the pipelines of a gateway on a booted box: its uploads, and its read-ahead on a second box that has nothing.
func TestSystemPipeline(t *testing.T) {
	t.Run("every split", everySplit)
	t.Run("real work", realWork)
	v := newVolumeSuite(t, "pipeline")
	v.bootAlone(t, "first")
	v.m.released("provisioned")
	v.m.login()
	v.attached(t, "main")

	v.copyIn(t, v.fresh(24<<20))()
	v.uploads(t)
	for _, name := range []string{"cut", "pack", "put", "commit"} {
		if st := v.stage(t, "upload main", name); st.Items == 0 || st.Bytes == 0 {
			t.Errorf("stage %s of the upload has seen %d items of %d bytes", name, st.Items, st.Bytes)
		}
	}
	pack := v.stage(t, "upload main", "pack")
	if pack.Bytes < 24<<20 {
		t.Errorf("%s were packed, 24 MiB written", mib(pack.Bytes))
	}
	seen(t, "upload of 24 MiB on a booted box: %d batches through cut, merge, pack, put, commit, as ratchetctl pipeline show tells", pack.Items)
	v.m.off()

	v.bootAlone(t, "second")
	v.m.released("provisioned")
	v.m.login()
	v.attached(t, "main")
	v.same(t)
	ahead := v.stage(t, "read-ahead main", "keep")
	if ahead.Items == 0 {
		t.Error("nothing was fetched ahead of a reader in order")
	}
	seen(t, "second box, blank disk: %d cells fetched ahead by the pipeline, all 32 MiB right", ahead.Items)
	v.m.off()
}

// pipelineConfig has one volume on a disk with room for all of it.
const pipelineConfig = `version: 1
hostname: pipeline
network: {management: {nic: "mac:52:54:00:72:61:01", dhcp: true}}
time: {ntp: []}
plugins:
  gateway:
    volumes:
      - name: main
        size: 32MiB
        disk: serial:ratchet-data
        upload: {max_age: 500ms}
        store: {driver: s3, endpoint: "http://10.0.2.2:%s", region: us-east-1, bucket: %s, access_key: %s, secret_key: %s}
    nbd: {listen: ["tcp::10809"]}
`

// bootAlone powers a machine on that has main and nothing else.
func (v *volumeSuite) bootAlone(t *testing.T, name string) {
	t.Helper()
	dir := filepath.Join(v.dir, name)
	must(t, os.MkdirAll(dir, 0o755))
	disk := filepath.Join(dir, "data.img")
	must(t, box.Sparse(disk, 128<<20))
	_, port, err := net.SplitHostPort(v.s3.Address)
	must(t, err)
	v.m = boot(t, box.Options{
		Image: v.image, Dir: dir, Disks: []vm.Disk{{Path: disk, Serial: "ratchet-data"}},
		Config: fmt.Appendf(nil, pipelineConfig, port, v.s3.Bucket, v.s3.AccessKey, v.s3.SecretKey),
	})
}

// stage asks the box what a stage of a pipeline has done.
func (v *volumeSuite) stage(t *testing.T, name, stage string) (found pipeline.StageActivity) {
	t.Helper()
	all := decode[map[string]pipeline.Snapshot](t, []byte(v.m.ctl("pipeline", "show", "gateway", "-o", "json")))
	for _, p := range all["gateway"].Pipelines {
		for _, st := range p.Stages {
			if p.Name == name && st.Name == stage {
				return st
			}
		}
	}
	t.Fatalf("ratchetctl pipeline show knows no stage %s of %s: %+v", stage, name, all)
	return found
}

// everySplit is a sample of `make bench AREA=pipeline`.
func everySplit(t *testing.T) {
	for _, c := range []struct {
		what  string
		w     sim.Workload
		least float64
	}{
		{"two pipelines, twelve workers", sim.Compute(1, 1), 0.98},
		{"workers, memory and bandwidth scarce", sim.Transfer(5, 1), 0.98},
		{"four phases", sim.Compute(4, 4), 1.15},
	} {
		_, best, tried := sim.Best(c.w)
		ratio := sim.Score(c.w, sim.Run(c.w, nil)) / best
		if ratio < c.least {
			t.Errorf("%s: %.3f of the best fixed split, want %.2f", c.what, ratio, c.least)
		}
		t.Logf(seenPrefix+"%s: %.2f x the best of all %d fixed splits", c.what, ratio, tried)
	}
}

// realWork tries a few times: whatever else runs here stretches single calls.
func realWork(t *testing.T) {
	const tolerance, tries = 0.10, 6
	worst := 0.0
	for range tries {
		outcomes, err := trial.Run(t.Context(), trial.Options{Dir: t.TempDir(), Length: 2 * time.Second})
		must(t, err)
		worst = 0
		for _, o := range outcomes {
			worst = max(worst, math.Abs(o.Real/o.Simulated-1))
		}
		if worst <= tolerance {
			seen(t, "real work within %.0f %% of what was simulated with its costs", math.Ceil(100*worst))
			return
		}
	}
	t.Errorf("real work is %.0f %% off what was simulated with its costs, want %.0f %%", 100*worst, 100*tolerance)
}
