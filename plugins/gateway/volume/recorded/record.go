package recorded

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ratchetos/ratchet/plugins/gateway/volume"
	"github.com/ratchetos/ratchet/plugins/gateway/volume/history"
	"github.com/ratchetos/ratchet/plugins/internal/log"
	"github.com/ratchetos/ratchet/plugins/internal/log/filedisk"
	"github.com/ratchetos/ratchet/plugins/internal/objstore"
)

// The recorded volume and its disk, in bytes.
const (
	VolumeName = "recorded"
	VolumeSize = 8 << 20
	DiskSize   = 96 << 20
)

// options are small, so that a short recording sees the log go round, batches, and the cache full.
func options(d log.Disk, s objstore.Store) volume.Options {
	return volume.Options{
		Name: VolumeName, Size: VolumeSize, Disk: d, Store: s,
		MaxAge: 200 * time.Millisecond, MaxBatch: 2 << 20,
	}
}

// Devices of a run.
type Devices struct {
	Disk    string // of the volume; DiskSize bytes
	Journal string // takes the store's history
}

// Run is the recorded client: ops of a seed on a new volume, flushes, and marks of what they covered.
func Run(ctx context.Context, d Devices, seed uint64, ops int, mark func(string) error) error {
	f, err := os.OpenFile(d.Disk, os.O_RDWR|unix.O_DIRECT, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	disk, err := filedisk.New(f, filedisk.Options{})
	if err != nil {
		return err
	}
	defer disk.Close()
	j, err := os.OpenFile(d.Journal, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer j.Close()
	journal := bufio.NewWriterSize(j, 1<<20)
	if err := drive(ctx, disk, seed, ops, journal, mark); err != nil {
		return err
	}
	return errors.Join(journal.Flush(), j.Sync())
}

func drive(ctx context.Context, d log.Disk, seed uint64, ops int, journal io.Writer, mark func(string) error) (err error) {
	store := NewJournaledStore(journal, mark)
	v, err := volume.Open(ctx, options(d, store))
	if err != nil {
		return err
	}
	defer func() {
		for _, closing := range []func() error{v.Close, store.Close} {
			if e := closing(); err == nil {
				err = e
			}
		}
	}()
	if err := mark(markAcked + "0"); err != nil {
		return err
	}
	client, buf := history.NewOps(seed, VolumeSize), make([]byte, history.MaxLen)
	for i := 1; i <= ops; i++ {
		o := client.Next()
		if o.Zero {
			err = v.Zero(ctx, o.Off, o.Len, false)
		} else {
			p := buf[:o.Len]
			o.Fill(p, i)
			err = v.WriteAt(ctx, p, o.Off, false)
		}
		if err != nil {
			return fmt.Errorf("op %d: %w", i, err)
		}
		if !o.Flush && i != ops {
			continue
		}
		if err := v.Flush(ctx); err != nil {
			return fmt.Errorf("flush after op %d: %w", i, err)
		}
		if err := mark(markAcked + strconv.Itoa(i)); err != nil {
			return err
		}
	}
	return nil
}
