package bench

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"
)

const peerNbdkit = "nbdkit file"

// localFigure is a ratio of one job on us and on a peer.
type localFigure struct {
	name, goal, peer string
	of               func(load) float64
}

var (
	iops        = func(l load) float64 { return l.iops }
	mbps        = func(l load) float64 { return l.mbps }
	cpu         = load.perOp
	durableRate = func(l load) float64 { return l.ops / l.wall.Seconds() } // with the last FLUSH
)

// localJob is a load and what is made of it.
type localJob struct {
	name    string
	job     fioJob
	peers   []string
	figures []localFigure
}

// localJobs are put on a volume of which everything is local and nothing is uploaded meanwhile. Random reads come after
// random writes, which leave a log in disorder.
func (s *session) localJobs(size int64) []localJob {
	job := func(rw, block string, depth, ops int) fioJob {
		return fioJob{rw: rw, block: block, depth: depth, ops: s.scaled(ops), size: size}
	}
	durable := func(jobs, ops int) fioJob {
		j := job("randwrite", "4k", 1, ops)
		j.fsync, j.jobs = true, jobs
		return j
	}
	kit, wb, none := "nbdkit", "qemu-nbd-writeback", "qemu-nbd-none"
	return []localJob{
		{"write_qd32", job("randwrite", "4k", 32, 60000), []string{kit}, []localFigure{
			{"cpu_write_ratio", "<= 0.60", peerNbdkit, cpu},
			{"write_qd32_ratio", ">= 1.0", peerNbdkit, durableRate},
		}},
		{"write_qd1", job("randwrite", "4k", 1, 20000), []string{kit, wb}, []localFigure{
			{"write_qd1_ratio", ">= 1.5", peerNbdkit, iops},
		}},
		{"durable_1", durable(1, 3000), []string{kit, none}, []localFigure{
			{"durable_1_ratio", ">= 2.0", peerNbdkit, iops},
		}},
		{"durable_16", durable(16, 12000), []string{kit}, []localFigure{
			{"durable_16_ratio", ">= 3", peerNbdkit, iops},
		}},
		{"read_qd32", job("randread", "4k", 32, 120000), []string{kit, wb}, []localFigure{
			{"cpu_hit_ratio", "<= 0.50", peerNbdkit, cpu},
			{"hit_qd32_ratio", ">= 1.3", peerNbdkit, iops},
		}},
		{"read_qd1", job("randread", "4k", 1, 30000), []string{kit}, []localFigure{
			{"hit_qd1_ratio", "", peerNbdkit, iops},
		}},
		{"seq_write", job("write", "1M", 8, 1024), []string{kit}, []localFigure{
			{"seq_write_ratio", ">= 0.9", peerNbdkit, durableRate},
		}},
		{"seq_read", job("read", "1M", 8, 4096), []string{kit}, []localFigure{
			{"seq_hit_ratio", ">= 0.9", peerNbdkit, mbps},
		}},
	}
}

// gatewayLocal compares us with file servers on the same disk, uploads held.
func (s *session) gatewayLocal(ctx context.Context) (err error) {
	const size = gib
	dir, err := s.folder("gateway-local")
	if err != nil {
		return err
	}
	s.note("prepare the disks")
	// All that is written stays in the log: nine times a GiB in order is the most of it.
	w, own, err := s.gateway(ctx, dir, gatewayConfig{size: size, disk: 20 * gib, store: dirStore(dir), hold: true})
	if err != nil {
		return err
	}
	defer w.stop()
	targets := map[string]*target{"ratchet": own}
	for _, p := range []struct {
		name string
		args []string
	}{
		{"nbdkit", []string{"nbdkit", "-f", "-U", "SOCKET", "file", "IMAGE"}},
		{"qemu-nbd-writeback", []string{"qemu-nbd", "-t", "-e", "32", "-f", "raw", "--cache=writeback", "--aio=io_uring", "-x", "", "-k", "SOCKET", "IMAGE"}},
		{"qemu-nbd-none", []string{"qemu-nbd", "-t", "-e", "32", "-f", "raw", "--cache=none", "--aio=io_uring", "-x", "", "-k", "SOCKET", "IMAGE"}},
	} {
		image := filepath.Join(dir, p.name+".img")
		if err := prewritten(image, size); err != nil {
			return err
		}
		p.args[len(p.args)-1] = image
		t, err := s.peer(ctx, p.name, dir, p.args...)
		if err != nil {
			return err
		}
		defer t.stop()
		targets[p.name] = t
	}
	for name, t := range targets {
		s.note("fill %s", name)
		if err := t.fill(ctx, size); err != nil {
			return err
		}
	}
	var failed []error
	for _, j := range s.localJobs(size) {
		failed = append(failed, s.local(ctx, j, targets))
	}
	return errors.Join(append(failed, s.freeFlush(ctx, own), s.uploadCost(ctx))...)
}

// warm reads all of every target once. What was written through the page cache is in it already and what was written
// past it is not: a comparison of hits begins with the same for both.
func warm(ctx context.Context, size int64, targets []*target) error {
	for _, t := range targets {
		if _, err := t.run(ctx, fioJob{rw: "read", block: "1M", depth: 4, ops: int(size / mib), size: size}); err != nil {
			return err
		}
	}
	return nil
}

// local runs one job on all that it names and records what it is for.
func (s *session) local(ctx context.Context, j localJob, targets map[string]*target) error {
	list := []*target{targets["ratchet"]}
	for _, p := range j.peers {
		list = append(list, targets[p])
	}
	if !j.job.writes() {
		if err := warm(ctx, j.job.size, list); err != nil {
			return err
		}
	}
	runs, err := s.alternate(ctx, j.name, j.job, list...)
	if err != nil {
		return err
	}
	n := s.alternations()
	own, kit := runs["ratchet"], runs["nbdkit"]
	for _, f := range j.figures {
		s.figures.Record("gateway."+f.name, Figure{Value: ratio(own, kit, f.of), Unit: "x", Goal: f.goal, Peer: f.peer, N: n})
	}
	for name, r := range runs {
		s.figures.Record("gateway."+j.name+"."+name, Figure{Value: medianOf(r, iops), Unit: "op/s", N: n})
		s.figures.Record("gateway."+j.name+"_cpu."+name, Figure{Value: medianOf(r, cpu), Unit: "us/op", N: n})
	}
	return nil
}

// freeFlush compares sixteen clients that write and flush with the same on a disk in memory, where a FLUSH costs its
// messages and its share of the log's work, and no wait for a device.
func (s *session) freeFlush(ctx context.Context, own *target) error {
	dir, err := s.folder("gateway-memory-disk")
	if err != nil {
		return err
	}
	w, free, err := s.gateway(ctx, dir, gatewayConfig{size: gib, disk: 2 * gib, memory: true, store: dirStore(dir), hold: true})
	if err != nil {
		return fmt.Errorf("gateway on a disk in memory (tmpfs takes O_DIRECT since Linux 6.6): %w", err)
	}
	defer w.stop()
	free.name = "memory disk"
	job := fioJob{rw: "randwrite", block: "4k", depth: 1, jobs: 16, fsync: true, ops: s.scaled(6000), size: gib}
	runs, err := s.alternate(ctx, "free_flush", job, own, free)
	if err != nil {
		return err
	}
	s.figures.Record("gateway.durable_16_of_free_flush", Figure{Value: ratio(runs[own.name], runs[free.name], iops), Unit: "x", Goal: ">= 0.7", Peer: "ours on a disk in memory", N: s.alternations()})
	return nil
}

// uploadCost is what a written MiB costs more when it is also uploaded.
func (s *session) uploadCost(ctx context.Context) error {
	const size = gib
	job := fioJob{rw: "randwrite", block: "4k", depth: 32, ops: s.scaled(60000), size: size, extra: []string{"--refill_buffers"}}
	used := make(map[bool][]float64) // µs per MiB, by whether uploads are held
	type host struct {
		w *workstation
		t *target
	}
	hosts := make(map[bool]host)
	for _, hold := range []bool{true, false} {
		dir, err := s.folder(fmt.Sprintf("gateway-cost-%t", hold))
		if err != nil {
			return err
		}
		w, t, err := s.gateway(ctx, dir, gatewayConfig{size: size, disk: 4 * gib, store: dirStore(dir), hold: hold, maxAge: "1s"})
		if err != nil {
			return err
		}
		defer w.stop()
		hosts[hold] = host{w, t}
	}
	for range s.alternations() {
		for hold, h := range hosts {
			took, err := h.t.cpuOf(ctx, func() error {
				if _, err := h.t.run(ctx, job); err != nil || hold {
					return err
				}
				return h.w.uploaded(ctx)
			})
			if err != nil {
				return err
			}
			used[hold] = append(used[hold], float64(took.Microseconds())/(float64(job.ops)*4096/mib))
		}
	}
	s.figures.Record("gateway.upload_cpu_addition", Figure{Value: Median(used[false]) - Median(used[true]), Unit: "us/MiB", N: s.alternations()})
	return nil
}

// gatewaySustained writes more than twice the log, with uploads, so that space is used again and again.
func (s *session) gatewaySustained(ctx context.Context) error {
	const size, disk = gib, 512 * mib
	dir, err := s.folder("gateway-sustained")
	if err != nil {
		return err
	}
	w, own, err := s.gateway(ctx, dir, gatewayConfig{size: size, disk: disk, store: dirStore(dir), maxAge: "1s"})
	if err != nil {
		return err
	}
	defer w.stop()
	image := filepath.Join(dir, "nbdkit.img")
	if err := prewritten(image, size); err != nil {
		return err
	}
	kit, err := s.peer(ctx, "nbdkit", dir, "nbdkit", "-f", "-U", "SOCKET", "file", image)
	if err != nil {
		return err
	}
	defer kit.stop()
	// Not scaled down for a quick run: less would not wrap the log.
	job := fioJob{rw: "randwrite", block: "4k", depth: 32, ops: 9 * disk / 4 / 4096, size: size, extra: []string{"--refill_buffers"}}
	start := time.Now()
	runs, err := s.alternate(ctx, "sustained", job, own, kit)
	if err != nil {
		return err
	}
	s.note("sustained writes took %s", time.Since(start).Round(time.Second))
	n := s.alternations()
	s.figures.Record("gateway.sustained_write_ratio", Figure{Value: ratio(runs["ratchet"], runs["nbdkit"], durableRate), Unit: "x", Goal: ">= 1.0", Peer: peerNbdkit, N: n})
	for name, r := range runs {
		s.figures.Record("gateway.sustained."+name, Figure{Value: medianOf(r, durableRate), Unit: "op/s", N: n})
	}
	return nil
}
