package gateway

import (
	"fmt"
	"time"

	"github.com/ratchetos/ratchet/core/plugin"
	"github.com/ratchetos/ratchet/core/plugin/pluginpb"
	"github.com/ratchetos/ratchet/plugins/internal/log"
	"github.com/ratchetos/ratchet/plugins/internal/objstore/driver"
)

// Config is the section plugins.gateway.
type Config struct {
	Volumes []VolumeConfig `json:"volumes,omitempty" jsonschema:"description=cached volumes; each has a disk of its own"`
	NBD     NBDConfig      `json:"nbd,omitzero" jsonschema:"description=how clients reach the volumes"`
}

// VolumeConfig is one cached volume.
type VolumeConfig struct {
	Name  string        `json:"name" config:"required" jsonschema:"description=export name and key prefix in the store: a-z 0-9 and -"`
	Size  plugin.Size   `json:"size" config:"required" jsonschema:"description=size that clients see; a multiple of 4KiB"`
	Disk  string        `json:"disk" config:"required" jsonschema:"description=local disk for write log and cache: serial:… or pci:… or file:/path"`
	Store driver.Config `json:"store" config:"required" jsonschema:"description=object store that holds the volume"`
	// Ack has one value so far; the acknowledgement ring will be the other.
	Ack         string          `json:"ack,omitempty" config:"enum=log" jsonschema:"description=when a write is acknowledged: log = durable on the local disk"`
	LogSize     plugin.Size     `json:"log_size,omitempty" jsonschema:"description=part of a blank disk for the write log; half of it when empty (4 GiB at most); the rest is cache"`
	Upload      UploadConfig    `json:"upload,omitzero" jsonschema:"description=when written data is uploaded"`
	ReadTimeout plugin.Duration `json:"read_timeout,omitempty" jsonschema:"description=how long a read of data that is not local waits for the store; default 30s"`
}

// UploadConfig bounds the batches.
type UploadConfig struct {
	MaxAge   plugin.Duration `json:"max_age,omitempty" jsonschema:"description=how long a write may wait for its upload to begin; default 5s"`
	MaxBatch plugin.Size     `json:"max_batch,omitempty" jsonschema:"description=how much is uploaded at once; default 8MiB"`
}

// NBDConfig is the server's.
type NBDConfig struct {
	Listen string `json:"listen,omitempty" jsonschema:"description=where the NBD server listens: tcp::10809 (default) or unix:/path"`
}

const (
	defaultListen = "tcp::10809"
	wantNBD       = "nbd"
	maxVolumes    = 32
	maxName       = 48
	maxSize       = 16 << 40
	minBatch      = log.MaxGroup
	maxBatch      = 48 << 20 // with headers and incompressible data still one object
)

func wantDisk(i int) string  { return fmt.Sprintf("volumes[%d].disk", i) }
func wantStore(i int) string { return fmt.Sprintf("volumes[%d].store", i) }

// parse turns the section into a configuration with defaults, everything that is wrong with
// it, and what it wants.
func parse(section plugin.Section) (Config, plugin.Validation) {
	var c Config
	v := plugin.Decode(section, &c)
	if c.NBD.Listen == "" {
		c.NBD.Listen = defaultListen
	}
	if len(c.Volumes) > maxVolumes {
		v.Errorf("volumes", "%d volumes: at most %d", len(c.Volumes), maxVolumes)
		return c, v
	}
	names, disks := map[string]int{}, map[string]int{}
	for i := range c.Volumes {
		vc := &c.Volumes[i]
		at := fmt.Sprintf("volumes[%d]", i)
		checkVolume(&v, at, vc)
		if first, taken := names[vc.Name]; taken && vc.Name != "" {
			v.Errorf(at+".name", "name %q is already used by volumes[%d]", vc.Name, first)
		} else {
			names[vc.Name] = i
		}
		if vc.Disk != "" {
			if first, taken := disks[vc.Disk]; taken {
				v.Errorf(at+".disk", "disk %s already holds volumes[%d]: a disk holds one volume, give each its own", vc.Disk, first)
				continue
			}
			disks[vc.Disk] = i
			v.Wants = append(v.Wants, &pluginpb.Want{Name: wantDisk(i), Kind: pluginpb.Kind_DISK, Selector: vc.Disk, Path: at + ".disk"})
		}
		if vc.Store.Driver == "dir" && vc.Store.Path != "" {
			v.Wants = append(v.Wants, &pluginpb.Want{Name: wantStore(i), Kind: pluginpb.Kind_DIRECTORY, Selector: "dir:" + vc.Store.Path, Path: at + ".store.path"})
		}
	}
	if len(c.Volumes) > 0 {
		v.Wants = append(v.Wants, &pluginpb.Want{Name: wantNBD, Kind: pluginpb.Kind_LISTENER, Selector: c.NBD.Listen, Path: "nbd.listen"})
	}
	return c, v
}

func checkVolume(v *plugin.Validation, at string, c *VolumeConfig) {
	if c.Name != "" && (len(c.Name) > maxName || !validName(c.Name)) {
		v.Errorf(at+".name", "name %q: use 1 to %d of a-z, 0-9 and -, starting with a letter or digit", c.Name, maxName)
	}
	if c.Size != 0 && (c.Size%log.BlockSize != 0 || c.Size > maxSize || c.Size < 0) {
		v.Errorf(at+".size", "size %d: use a multiple of 4096 up to 16 TiB", c.Size)
	}
	if c.LogSize != 0 && c.LogSize < log.MinLogSize {
		v.Errorf(at+".log_size", "log of %d bytes: use at least %d MiB", c.LogSize, log.MinLogSize>>20)
	}
	if b := c.Upload.MaxBatch; b != 0 && (b < minBatch || b > maxBatch) {
		v.Errorf(at+".upload.max_batch", "batch of %d bytes: use 1 MiB to %d MiB", b, maxBatch>>20)
	}
	for _, d := range []struct {
		field string
		value time.Duration
	}{{".upload.max_age", time.Duration(c.Upload.MaxAge)}, {".read_timeout", time.Duration(c.ReadTimeout)}} {
		if d.value < 0 || d.value > time.Hour {
			v.Errorf(at+d.field, "%s: use a duration up to 1h", d.value)
		}
	}
	for _, p := range driver.Check(c.Store) {
		// A missing store has been reported whole already.
		if c.Store != (driver.Config{}) {
			v.Errorf(at+".store."+p.Field, "%s", p.Message)
		}
	}
}

func validName(s string) bool {
	for i, c := range s {
		switch {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '-' && i > 0:
		default:
			return false
		}
	}
	return s != ""
}
