package soak

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/ratchetos/ratchet/image/builder"
	"github.com/ratchetos/ratchet/plugins/gateway/nbd/nbdtest"
	"github.com/ratchetos/ratchet/plugins/gateway/volume/history"
	"github.com/ratchetos/ratchet/qemu/box"
	"github.com/ratchetos/ratchet/qemu/powercut"
	"github.com/ratchetos/ratchet/qemu/s3server"
	"github.com/ratchetos/ratchet/qemu/vm"
)

// cachedVolume kills gateways, cuts the power of simulated disks, replays a recorded disk, and cuts a machine's power.
// What goes wrong in one of them does not keep the others from being done.
func cachedVolume(ctx context.Context, o Options) ([]tally, error) {
	flushes := 0
	if o.Interruptions > 0 {
		flushes = max(o.Interruptions/4/recorded, 1) * recorded
	}
	results, err := parts(ctx, o,
		part{"./plugins/gateway", slicing{"kill", "TestKill", o.Interruptions, 500, flags("kills")}},
		part{"./plugins/gateway/volume", slicing{"power-cut", "TestPowerCuts", some(o.Interruptions, 5), 250, flags("cuts")}},
		part{"./qemu/logwrites", slicing{"recorded-flush", "TestEveryFlush", flushes, recorded, flags("ops", "-step", "1")}},
	)
	if o.Machines > 0 && ctx.Err() == nil {
		t := tally{system: o.System, what: "machine"}
		err = errors.Join(err, volumeLife(ctx, o, &t))
		results = append(results, t)
		fmt.Fprintln(o.Out, t)
	}
	return results, err
}

// recorded is how many requests one recording is of: a short one shows too little.
const recorded = 625

// flags tells a test how much to do, with which seed.
func flags(name string, more ...string) func(int, uint64) []string {
	return func(n int, seed uint64) []string {
		return append([]string{"-" + name, strconv.Itoa(n), "-seed", strconv.FormatUint(seed, 10)}, more...)
	}
}

// Of the soaked machine. The data disk is small, so that its log goes round between two cuts.
const (
	soakedVolume = 16 << 20
	soakedDisk   = 96 << 20
	soakedConfig = `version: 1
hostname: soaked
network: {management: {nic: "mac:52:54:00:72:61:01", dhcp: true}}
time: {ntp: []}
plugins:
  gateway:
    volumes:
      - name: soaked
        size: 16MiB
        disk: serial:ratchet-data
        upload: {max_age: 300ms}
        store: {driver: s3, endpoint: "http://10.0.2.2:%s", region: us-east-1, bucket: %s, access_key: %s, secret_key: %s}
    nbd: {listen: ["tcp::10809"]}
`
	// lifeRequests to the data disk bound where a cut comes.
	lifeRequests = 1200
	clientLimit  = 3 * time.Minute

	cmdWriteZeroes = 6 // of NBD
)

// volumeLife cuts the power of one machine n times while a client writes to its volume. The data disk loses
// what the gateway did not flush; the volume's client has the judge of package history.
func volumeLife(ctx context.Context, o Options, t *tally) (err error) {
	r := rand.New(rand.NewPCG(o.Seed, 17))
	dir, image := filepath.Join(o.Dir, "volume"), filepath.Join(o.Dir, "cloud")
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	if _, err := (builder.Options{Flavour: "cloud", Out: image, Version: "soak.0"}).Build(ctx); err != nil {
		return err
	}
	store, err := s3server.Start(ctx, s3server.Options{Dir: filepath.Join(dir, "s3")})
	if err != nil {
		return err
	}
	defer store.Stop()
	_, port, err := net.SplitHostPort(store.Address)
	if err != nil {
		return err
	}
	data := filepath.Join(dir, "data.img")
	if err := box.Sparse(data, soakedDisk); err != nil {
		return err
	}
	b := box.Options{
		Image: image, Dir: filepath.Join(dir, "box"), Limit: lifeLimit,
		Config: fmt.Appendf(nil, soakedConfig, port, store.Bucket, store.AccessKey, store.SecretKey),
	}
	found := make([]byte, soakedVolume)
	seed, acked := uint64(0), 0
	for cut := 0; ; cut++ {
		begin := time.Now()
		m, err := volumeOn(ctx, b, data)
		if err != nil {
			return err
		}
		now, err := m.contents(ctx)
		if err == nil && cut > 0 {
			t.tried++
			if err := history.NewJudge(seed, found).Match(now, acked); err != nil {
				t.lost++
				fmt.Fprintf(o.Out, "  cut %d: %v\n", cut, err)
			}
		}
		if err != nil || cut == o.Machines || o.over() {
			return errors.Join(err, m.end())
		}
		found, seed = now, r.Uint64()
		m.fuse.arm(kind(r.IntN(int(chip))), r.IntN(lifeRequests/4))
		if acked, err = m.client(ctx, seed); err != nil {
			return errors.Join(err, m.end())
		}
		loss, err := m.cut(r.Uint64())
		if err != nil {
			return err
		}
		fmt.Fprintf(o.Out, "  cut %d: %d requests of the client flushed; of the disk %d sectors unflushed, %d dropped, %d reordered, %.0f s\n",
			cut+1, acked, loss.Unflushed, loss.Dropped, loss.Reordered, time.Since(begin).Seconds())
	}
}

// volumeOn starts a machine whose data disk loses what was not flushed.
func volumeOn(ctx context.Context, b box.Options, data string) (m *machine, err error) {
	m = &machine{fuse: newFuse()}
	if m.disk, err = powercut.Open(data); err != nil {
		return nil, err
	}
	m.disk.Before = func(f bool) {
		if f {
			m.fuse.request(flush)
		} else {
			m.fuse.request(write)
		}
	}
	if m.server, err = m.disk.Serve(ctx); err != nil {
		return nil, errors.Join(err, m.disk.Close())
	}
	b.Disks = []vm.Disk{{Path: m.server.Filename, Serial: "ratchet-data"}}
	if m.Box, err = box.Boot(ctx, b); err != nil {
		return nil, errors.Join(err, m.server.Stop(), m.disk.Close())
	}
	if _, _, err := m.awaits(ctx, readyLine); err != nil {
		return nil, errors.Join(err, m.end())
	}
	return m, nil
}

// dial waits until the volume is exported.
func (m *machine) dial(ctx context.Context) (c *nbdtest.Client, err error) {
	ctx, cancel := context.WithTimeout(ctx, stepLimit)
	defer cancel()
	for {
		if c, err = nbdtest.Dial(ctx, "tcp", m.Forward(box.NBDPort), "soaked", nbdtest.Options{Timeout: stepLimit}); err == nil {
			return c, nil
		}
		select {
		case <-time.After(200 * time.Millisecond):
		case <-ctx.Done():
			return nil, err
		}
	}
}

// contents reads the whole volume.
func (m *machine) contents(ctx context.Context) ([]byte, error) {
	c, err := m.dial(ctx)
	if err != nil {
		return nil, err
	}
	defer c.Abandon()
	all := make([]byte, 0, soakedVolume)
	for len(all) < soakedVolume {
		p, err := c.Read(uint64(len(all)), 1<<20)
		if err != nil {
			return nil, fmt.Errorf("read back: %w", err)
		}
		all = append(all, p...)
	}
	return all, nil
}

// client writes until the fuse has blown, and says how many requests a flush has covered by then.
func (m *machine) client(ctx context.Context, seed uint64) (acked int, err error) {
	c, err := m.dial(ctx)
	if err != nil {
		return 0, err
	}
	done := make(chan error, 1)
	covered := make(chan int, 1)
	go func() {
		var failed error
		last, ops, buf := 0, history.NewOps(seed, soakedVolume), make([]byte, history.MaxLen)
		for i := 1; failed == nil; i++ {
			op := ops.Next()
			if op.Zero {
				_, failed = c.Do(nbdtest.Request{Cmd: cmdWriteZeroes, Off: uint64(op.Off), Len: uint32(op.Len)})
			} else {
				p := buf[:op.Len]
				op.Fill(p, i)
				failed = c.Write(uint64(op.Off), p, false)
			}
			if failed == nil && op.Flush {
				if failed = c.Flush(); failed == nil {
					last = i
				}
			}
		}
		covered <- last
		done <- failed
	}()
	limit := time.NewTimer(clientLimit)
	defer limit.Stop()
	select {
	case <-m.fuse.blown:
		c.Abandon() // what it waits for will not come
		acked = <-covered
		return acked, nil
	case err := <-done:
		return <-covered, fmt.Errorf("the client ended before the cut: %w", err)
	case <-limit.C:
		c.Abandon()
		return <-covered, nil // a cut at rest is one too
	}
}
