package gateway

import (
	"context"

	"github.com/ratchetos/ratchet/core/plugin"
	"github.com/ratchetos/ratchet/plugins/gateway/nbd"
	"github.com/ratchetos/ratchet/plugins/gateway/target/exports"
	"github.com/ratchetos/ratchet/plugins/gateway/target/loopback"
)

// wantTargets is the socket over which the companion's process gets volumes for the kernel's targets.
const wantTargets = "target"

// exportable is what the target's part of the section needs to know of the volumes.
func (c *Config) exportable() []exports.Volume {
	list := make([]exports.Volume, len(c.Volumes))
	for i, v := range c.Volumes {
		bucket := v.Store.Bucket
		if bucket == "" {
			bucket = v.Store.Path
		}
		list[i] = exports.Volume{Name: v.Name, Place: exports.Place{Bucket: bucket, Prefix: v.Store.Prefix, Volume: v.Name}}
	}
	return list
}

// zeroing is a volume whose TRIM leaves zeroes behind, to the sector: LIO promises its initiators that (LBPRZ), and the
// kernel's block driver knows no other way to tell what was unmapped.
type zeroing struct{ backend }

var (
	_ nbd.Backend    = zeroing{}
	_ nbd.FastReader = zeroing{}
)

func (z zeroing) Trim(ctx context.Context, off, n uint64, fua bool) error {
	var flags nbd.ZeroFlags
	if fua {
		flags |= nbd.ZeroFUA
	}
	return z.WriteZeroes(ctx, off, n, flags)
}

// serveTargets serves the volumes that are exported to this box's own kernel. A process that answers its own kernel's
// block requests must not wait for memory that only it could free.
func (f *Feature) serveTargets(ctx context.Context, handles map[string]plugin.Handle) error {
	if err := loopback.Harden(); err != nil {
		f.session.Log.Warn("this process is not protected against a shortage of memory that its own block devices cause", "error", err)
	}
	return f.serve(ctx, wantTargets, handles[wantTargets], &nbd.Server{Exports: f.keeper.Exports(arriving{&f.faces.target, ctx, f.runners}, asTarget)})
}
