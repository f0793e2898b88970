package bench

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ratchetos/ratchet/qemu/s3server"
)

// gatewayS3backer compares us with s3backer, a block device over S3 on FUSE, over the same S3 server. Its FLUSH need
// not mean that anything is durable; ours does.
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
	// Each has its own way to the server, so that one can see when both have nothing more to say.
	var ways [2]*delayProxy
	for i := range ways {
		if ways[i], err = startDelay(srv.Address); err != nil {
			return err
		}
		defer ways[i].stop()
	}
	w, own, err := s.gateway(ctx, dir, gatewayConfig{size: size, disk: 2 * gib, store: s3Store(srv, ways[0].Address, "ratchet"), maxAge: "1s"})
	if err != nil {
		return err
	}
	defer w.stop()
	file, unmount, err := s.mountS3backer(ctx, dir, srv, ways[1].Address, size)
	if err != nil {
		return err
	}
	defer unmount()

	runtime := 3 * time.Second
	if s.Quick {
		runtime = time.Second
	}
	for _, c := range []struct {
		name, goal string
		fsync      bool
	}{{"write", ">= 20", false}, {"flush", ">= 4", true}} {
		job := fioJob{rw: "randwrite", block: "4k", depth: 1, fsync: c.fsync, runtime: runtime, size: size, extra: []string{"--refill_buffers"}}
		var ours, theirs, ratios []float64
		for i := range s.alternations() {
			if err := quiet(ctx, ways[:]); err != nil {
				return err
			}
			a, err := own.run(ctx, job)
			if err != nil {
				return err
			}
			if err := quiet(ctx, ways[:]); err != nil {
				return err
			}
			b, err := job.fio(ctx, "--ioengine=psync", "--filename="+file)
			if err != nil {
				return err
			}
			s.note("s3backer %s %d: ratchet %.0f/s, s3backer %.0f/s", c.name, i+1, a.iops, b.iops)
			ours, theirs, ratios = append(ours, a.iops), append(theirs, b.iops), append(ratios, a.iops/b.iops)
		}
		n := s.alternations()
		s.figures.Record("gateway.s3backer_"+c.name+"_ratio", Figure{Value: Median(ratios), Unit: "x", Goal: c.goal, Peer: "s3backer, same S3 server", N: n})
		s.figures.Record("gateway.s3_"+c.name+".ratchet", Figure{Value: Median(ours), Unit: "op/s", N: n})
		s.figures.Record("gateway.s3_"+c.name+".s3backer", Figure{Value: Median(theirs), Unit: "op/s", N: n})
	}
	return nil
}

const (
	quietFor   = time.Second
	quietLimit = 2 * time.Minute
)

// quiet returns when nothing has been sent to the store for a while: what one leaves behind to be uploaded is not done
// at the other's expense.
func quiet(ctx context.Context, ways []*delayProxy) error {
	ctx, cancel := context.WithTimeout(ctx, quietLimit)
	defer cancel()
	tick := time.NewTicker(quietFor)
	defer tick.Stop()
	for last := int64(-1); ; {
		var sent int64
		for _, w := range ways {
			sent += w.sent.Load()
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

// mountS3backer mounts a volume with s3backer's defaults, 4 KiB blocks and a write-back cache of 1000 of them, and
// returns the file that is the volume. Naming the region, which is s3backer's default, would make it put the bucket into
// the host's name.
func (s *session) mountS3backer(ctx context.Context, dir string, srv *s3server.Server, address string, size int64) (file string, unmount func(), err error) {
	at := filepath.Join(dir, "s3backer")
	if err := os.MkdirAll(at, 0o755); err != nil {
		return "", nil, err
	}
	cmd := exec.CommandContext(ctx, "s3backer", "-f", "--quiet", fmt.Sprintf("--size=%d", size), "--blockSize=4k", "--prefix=s3backer/",
		"--baseURL=http://"+address+"/", "--accessId="+srv.AccessKey, "--accessKey="+srv.SecretKey, "--filename=volume", srv.Bucket, at)
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
