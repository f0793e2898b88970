package gateway

import (
	"fmt"
	"slices"
	"strings"

	"github.com/ratchetos/ratchet/core/plugin"
	"github.com/ratchetos/ratchet/core/plugin/pluginpb"
	"github.com/ratchetos/ratchet/plugins/gateway/target/exports"
	"github.com/ratchetos/ratchet/plugins/internal/log"
	"github.com/ratchetos/ratchet/plugins/internal/objstore/driver"
)

// Config is the section plugins.gateway.
type Config struct {
	Volumes []VolumeConfig `json:"volumes,omitempty" jsonschema:"description=cached volumes"`
	NBD     NBDConfig      `json:"nbd,omitzero" jsonschema:"description=how clients reach the volumes"`
	Target  exports.Config `json:"target,omitzero" jsonschema:"description=volumes as iSCSI disks and NVMe namespaces, through the kernel's targets"`
	Scrub   ScrubConfig    `json:"scrub,omitzero" jsonschema:"description=reading the local disks through in the background and checking every checksum"`
}

// VolumeConfig is one cached volume.
type VolumeConfig struct {
	Name  string        `json:"name" config:"required" jsonschema:"description=export name and key prefix in the store: a-z 0-9 and -"`
	Size  plugin.Size   `json:"size" config:"required" jsonschema:"description=size that clients see; a multiple of 4KiB; may be changed later"`
	Disk  string        `json:"disk" config:"required" jsonschema:"description=local disk for write log and cache: serial:… or pci:… or file:/path; several volumes can have parts of one disk"`
	Share int           `json:"share,omitempty" config:"min=1,max=1000" jsonschema:"description=weight among the volumes of one disk, for space and for turns to write; default 1"`
	Store driver.Config `json:"store" config:"required" jsonschema:"description=object store that holds the volume"`
	// Ack by listener, when empty: see ackedInRing.
	Ack         string           `json:"ack,omitempty" config:"enum=log|ring" jsonschema:"description=when a write is answered: log = durable on the local disk (default on TCP); ring = in memory that outlives the gateway's process, durable at the next FLUSH (default on unix sockets)"`
	Ring        plugin.Size      `json:"ring,omitempty" jsonschema:"description=memory for writes on their way to the disk; a multiple of 4MiB; default 32MiB"`
	CacheSize   plugin.Size      `json:"cache_size,omitempty" jsonschema:"description=part of the disk for write log and cache, when the disk is first used; default: what is free, by share"`
	WarnAt      int              `json:"warn_at,omitempty" config:"min=1,max=100" jsonschema:"description=percentage of the local space taken by what is not uploaded at which the volume warns; default 75"`
	Encryption  EncryptionConfig `json:"encryption,omitzero" jsonschema:"description=encryption of what goes to the store"`
	Upload      UploadConfig     `json:"upload,omitzero" jsonschema:"description=when written data is uploaded"`
	ReadAhead   *plugin.Size     `json:"read_ahead,omitempty" jsonschema:"description=how far sequential reads of data that is not local are fetched ahead; 0 turns it off; default 4MiB"`
	ReadTimeout plugin.Duration  `json:"read_timeout,omitempty" jsonschema:"description=how long a read of data that is not local waits while the store gives nothing; default 30s"`
}

// EncryptionConfig is the key of one volume. One of the two is given.
type EncryptionConfig struct {
	Key     string `json:"key,omitempty" config:"secret" jsonschema:"description=the key itself: 32 bytes as 64 hexadecimal digits, as openssl rand -hex 32 makes them"`
	KeyFile string `json:"key_file,omitempty" jsonschema:"description=absolute path of a file that holds the key in that form"`

	given bool // the section is there: an empty one must not mean that nothing is encrypted
}

// SetDefaults implements strict.Defaulter, which is asked of sections that are there.
func (c *EncryptionConfig) SetDefaults() { c.given = true }

// UploadConfig bounds the batches.
type UploadConfig struct {
	MaxAge    plugin.Duration   `json:"max_age,omitempty" jsonschema:"description=how long a write may wait for its upload to begin; default 5s"`
	MaxBatch  plugin.Size       `json:"max_batch,omitempty" jsonschema:"description=how much is uploaded at once; default 8MiB"`
	Bandwidth []BandwidthConfig `json:"bandwidth,omitempty" config:"max=24" jsonschema:"description=limits by time of day; the first that covers a moment counts; no limit at other times"`
	Hold      bool              `json:"hold,omitempty" jsonschema:"description=keep everything local until this is taken away again; the log must have room for it"`
}

// BandwidthConfig limits uploads for a part of each day.
type BandwidthConfig struct {
	From string      `json:"from" config:"required" jsonschema:"description=local time, as 08:00"`
	To   string      `json:"to" config:"required" jsonschema:"description=local time; earlier than from means the next day"`
	Rate plugin.Size `json:"rate" config:"required" jsonschema:"description=bytes a second, as 10MiB"`
}

// NBDConfig is the server's.
type NBDConfig struct {
	Listen []string  `json:"listen,omitempty" config:"max=8" jsonschema:"description=where the NBD server listens: tcp::10809 (default) or unix:/path"`
	TLS    TLSConfig `json:"tls,omitzero" jsonschema:"description=demanded of TCP clients when set"`
}

// TLSConfig is PEM text, or file:/path of a file with it.
type TLSConfig struct {
	Certificate string `json:"certificate,omitempty" jsonschema:"description=certificate chain as PEM text or file:/path"`
	Key         string `json:"key,omitempty" config:"secret" jsonschema:"description=private key as PEM text or file:/path"`
	ClientCA    string `json:"client_ca,omitempty" jsonschema:"description=certificates that clients' certificates must come from; without it any client is let in"`

	given bool // see EncryptionConfig
}

// SetDefaults implements strict.Defaulter.
func (c *TLSConfig) SetDefaults() { c.given = true }

// ScrubConfig paces the background check.
type ScrubConfig struct {
	Every plugin.Duration `json:"every,omitempty" jsonschema:"description=from one pass to the next; default 168h"`
	Rate  plugin.Size     `json:"rate,omitempty" jsonschema:"description=bytes a second and disk; default 16MiB"`
}

const (
	defaultListen = "tcp::10809"
	defaultRing   = 32 << 20
	defaultWarnAt = 75
	// ringUnit is what a ring is a multiple of, and ringHeader what the log keeps in front of it.
	ringUnit   = 4 << 20
	ringHeader = log.BlockSize
)

// The names of what core hands out. Disks belong to the first volume that names them.
func wantDisk(i int) string         { return fmt.Sprintf("volumes[%d].disk", i) }
func wantCached(i int) string       { return fmt.Sprintf("volumes[%d].disk.cached", i) }
func wantStore(i int) string        { return fmt.Sprintf("volumes[%d].store", i) }
func wantKey(i int) string          { return fmt.Sprintf("volumes[%d].encryption", i) }
func wantListener(i int) string     { return fmt.Sprintf("nbd.listen[%d]", i) }
func wantTLS(field string) string   { return "nbd.tls." + field }
func wantRing(volume string) string { return "ring:" + volume } // by name: it outlives changes of the list

// setDefaults fills what the section leaves out.
func (c *Config) setDefaults() {
	if len(c.NBD.Listen) == 0 {
		c.NBD.Listen = []string{defaultListen}
	}
	for i := range c.Volumes {
		v := &c.Volumes[i]
		if v.Share == 0 {
			v.Share = 1
		}
		if v.Ring == 0 {
			v.Ring = defaultRing
		}
		if v.WarnAt == 0 {
			v.WarnAt = defaultWarnAt
		}
	}
}

// parse turns the section into a configuration with defaults, everything that is wrong with
// it, and what it wants.
func parse(section plugin.Section) (Config, plugin.Validation) {
	var c Config
	v := plugin.Decode(section, &c)
	c.setDefaults()
	if len(c.Volumes) > maxVolumes {
		v.Errorf("volumes", "%d volumes: at most %d", len(c.Volumes), maxVolumes)
		return c, v
	}
	check(&c, &v)
	v.Wants = c.wants()
	return c, v
}

// diskOf is the index of the first volume on the disk of volume i.
func (c *Config) diskOf(i int) int {
	return slices.IndexFunc(c.Volumes, func(v VolumeConfig) bool { return v.Disk == c.Volumes[i].Disk })
}

// wants is the hardware, the sockets, the memory and the files that the configuration needs. What one volume alone needs
// is optional: the others serve without it.
func (c *Config) wants() (list []plugin.Want) {
	add := func(name string, kind pluginpb.Kind, selector, path string) {
		list = append(list, &pluginpb.Want{Name: name, Kind: kind, Selector: selector, Path: path})
	}
	optional := func(name string, kind pluginpb.Kind, selector, path string) {
		add(name, kind, selector, path)
		list[len(list)-1].Optional = true
	}
	rings := map[string]bool{}
	for i, vc := range c.Volumes {
		at := fmt.Sprintf("volumes[%d]", i)
		if vc.Disk != "" && c.diskOf(i) == i {
			optional(wantDisk(i), pluginpb.Kind_DISK, vc.Disk, at+".disk")
			optional(wantCached(i), pluginpb.Kind_DISK_CACHED, vc.Disk, at+".disk")
		}
		if vc.Name != "" && !rings[vc.Name] {
			rings[vc.Name] = true
			add(wantRing(vc.Name), pluginpb.Kind_MEMORY, "", at+".ring")
			list[len(list)-1].Size = uint64(vc.Ring) + ringHeader
		}
		if vc.Store.Driver == "dir" && vc.Store.Path != "" {
			optional(wantStore(i), pluginpb.Kind_DIRECTORY, "dir:"+vc.Store.Path, at+".store.path")
		}
		if vc.Encryption.KeyFile != "" {
			optional(wantKey(i), pluginpb.Kind_FILE, "file:"+vc.Encryption.KeyFile, at+".encryption.key_file")
		}
	}
	if len(c.Volumes) == 0 {
		return list // nobody is let in to nothing
	}
	for i, listen := range c.NBD.Listen {
		add(wantListener(i), pluginpb.Kind_LISTENER, listen, fmt.Sprintf("nbd.listen[%d]", i))
	}
	if c.Target.Enabled() {
		add(wantTargets, pluginpb.Kind_LISTENER, "unix:"+exports.Socket, "target")
	}
	for field, value := range c.NBD.TLS.fields() {
		if strings.HasPrefix(value, "file:") {
			add(wantTLS(field), pluginpb.Kind_FILE, value, "nbd.tls."+field)
		}
	}
	return list
}
