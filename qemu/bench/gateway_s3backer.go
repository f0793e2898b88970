package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ratchetos/ratchet/qemu/s3server"
)

// s3backerModes are the ways in which s3backer is measured.
var s3backerModes = []struct {
	name string
	args []string
}{
	{"default", nil}, // 1000 blocks are written back from memory; fsync promises nothing
	{"sync", []string{"--blockCacheSync", "--blockCacheWriteDelay=0"}}, // a write is in the store when it returns: what is durable with s3backer
}

// s3backerFigures hold a load of ours against a mode: acknowledged writes against its cache, and what is durable
// against what is durable. The FLUSH of its cache is there to be watched.
var s3backerFigures = []struct {
	name, mode, goal string
	depth            int
	fsync            bool
}{
	{"write", "default", ">= 20", 1, false},
	{"write_32", "default", ">= 20", 32, false},
	{"flush", "sync", ">= 4", 1, true},
	{"flush_undurable", "default", "", 1, true},
}

// gatewayS3backer compares us with s3backer, a block device over S3 on FUSE, over the same S3 server.
func (s *session) gatewayS3backer(ctx context.Context) error {
	const size = 256 * mib
	dir, err := s.folder("gateway-s3backer")
	if err != nil {
		return err
	}
	srv, err := s3server.Start(ctx, s3server.Options{Dir: filepath.Join(dir, "s3")})
	if err != nil {
		return err
	}
	defer srv.Stop()
	// Each has its own way to the server, so that one can see when none has more to say.
	var ways []*way
	another := func() (string, error) {
		w, err := startWay(ctx, srv.Address)
		if err != nil {
			return "", err
		}
		ways = append(ways, w)
		return w.Address, nil
	}
	defer func() {
		for _, w := range ways {
			w.stop()
		}
	}()
	address, err := another()
	if err != nil {
		return err
	}
	w, own, err := s.gateway(ctx, dir, gatewayConfig{size: size, disk: 2 * gib, store: s3Store(srv, address, "ratchet"), maxAge: "1s"})
	if err != nil {
		return err
	}
	defer w.stop()
	files := make(map[string]string)
	for _, m := range s3backerModes {
		if address, err = another(); err != nil {
			return err
		}
		m.args = append(m.args, "--baseURL=http://"+address+"/", "--accessId="+srv.AccessKey, "--accessKey="+srv.SecretKey, "--prefix="+m.name+"/")
		file, unmount, err := mountS3backer(ctx, filepath.Join(dir, m.name), srv.Bucket, size, m.args...)
		if err != nil {
			return err
		}
		defer unmount()
		files[m.name] = file
	}
	var failed []error
	for _, f := range s3backerFigures {
		// Several times what s3backer's cache holds, and little enough to be uploaded between two runs.
		job := fioJob{rw: "randwrite", block: "4k", depth: f.depth, fsync: f.fsync, ops: s.scaled(8000), size: size, extra: []string{"--refill_buffers"}}
		failed = append(failed, s.againstS3backer(ctx, f.name, f.mode, f.goal, job, own, files[f.mode], ways))
	}
	return errors.Join(failed...)
}

// againstS3backer lets both take turns with one job.
func (s *session) againstS3backer(ctx context.Context, name, mode, goal string, job fioJob, own *target, file string, ways []*way) error {
	var ours, theirs, ratios []float64
	for i := range s.alternations() {
		if err := quiet(ctx, ways); err != nil {
			return err
		}
		a, err := own.run(ctx, job)
		if err != nil {
			return err
		}
		if err := quiet(ctx, ways); err != nil {
			return err
		}
		// What is in flight in a file are threads.
		theirJob := job
		theirJob.jobs, theirJob.depth = job.depth, 1
		b, err := theirJob.fio(ctx, "--ioengine=psync", "--filename="+file)
		if err != nil {
			return err
		}
		s.note("s3backer (%s) %s %d: ratchet %.0f/s, s3backer %.0f/s", mode, name, i+1, a.iops, b.iops)
		ours, theirs, ratios = append(ours, a.iops), append(theirs, b.iops), append(ratios, a.iops/b.iops)
	}
	n := s.alternations()
	s.figures.Record("gateway.s3backer_"+name+"_ratio", Figure{Value: Median(ratios), Unit: "x", Goal: goal, Peer: "s3backer, " + mode + ", same S3 server", N: n})
	s.figures.Record("gateway.s3_"+name+".ratchet", Figure{Value: Median(ours), Unit: "op/s", N: n})
	s.figures.Record("gateway.s3_"+name+".s3backer", Figure{Value: Median(theirs), Unit: "op/s", N: n})
	return nil
}

const (
	quietFor   = time.Second
	quietLimit = 5 * time.Minute
)

// quiet returns when nothing has been sent to the store for a while: what one leaves behind to be uploaded is not done
// at the other's expense.
func quiet(ctx context.Context, ways []*way) error {
	ctx, cancel := context.WithTimeout(ctx, quietLimit)
	defer cancel()
	tick := time.NewTicker(quietFor)
	defer tick.Stop()
	for last := int64(-1); ; {
		var sent int64
		for _, w := range ways {
			n, err := w.sent()
			if err != nil {
				return err
			}
			sent += n
		}
		if sent == last {
			return nil
		}
		last = sent
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("wait for uploads to end: %w", ctx.Err())
		}
	}
}

// mountS3backer mounts a volume of 4 KiB blocks and returns the file that is the volume. Naming the region, which is
// s3backer's default, would make it put the bucket into the host's name.
func mountS3backer(ctx context.Context, at, bucket string, size int64, args ...string) (file string, unmount func(), err error) {
	if err := os.MkdirAll(at, 0o755); err != nil {
		return "", nil, err
	}
	args = append([]string{"-f", "--quiet", fmt.Sprintf("--size=%d", size), "--blockSize=4k", "--filename=volume"}, args...)
	cmd := exec.CommandContext(ctx, "s3backer", append(args, bucket, at)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	cmd.WaitDelay = stopLimit
	var log tail
	cmd.Stderr = writerFunc(func(p []byte) (int, error) { log.add(string(p)); return len(p), nil })
	if err := cmd.Start(); err != nil {
		return "", nil, fmt.Errorf("start s3backer: %w (make bench installs it)", err)
	}
	var why error // of its end, once that is closed
	ended := make(chan struct{})
	go func() {
		why = cmd.Wait()
		close(ended)
	}()
	unmount = func() {
		_ = unix.Unmount(at, unix.MNT_DETACH)
		// It writes back what it holds; nobody needs that any more.
		_ = cmd.Process.Kill()
		<-ended
	}
	file = filepath.Join(at, "volume")
	limit := time.NewTimer(startLimit)
	defer limit.Stop()
	tick := time.NewTicker(stateEvery)
	defer tick.Stop()
	for {
		if st, err := os.Stat(file); err == nil && st.Size() == size {
			return file, unmount, nil
		}
		select {
		case <-ended:
			return "", nil, fmt.Errorf("s3backer ended without a mount: %w\n%s", why, log.String())
		case <-limit.C:
			unmount()
			return "", nil, fmt.Errorf("s3backer has not mounted after %s\n%s", startLimit, log.String())
		case <-tick.C:
		}
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }
