package soak

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"github.com/ratchetos/ratchet/image/builder"
	"github.com/ratchetos/ratchet/qemu/box"
)

const updateConfig = `version: 1
hostname: soaked
network: {management: {nic: "mac:52:54:00:72:61:01", dhcp: true}}
time: {ntp: []}
update: {healthy: 2s, trial: 4m}
`

// healthyLine is core's; groups are after that of awaits.
const healthyLine = `ratchet: healthy: slot ([AB]), image (\S+),`

// updated is a box that is updated for ever.
type updated struct {
	o       box.Options
	m       *machine
	bundles map[string]string // by version
	digests map[string]string // version by digest
	runs    string            // version
	slots   map[string]string // digest by slot
}

// updateLife interrupts n updates of one machine.
func updateLife(ctx context.Context, o Options, image string, n int, out *lines, t *tally) error {
	r := rand.New(rand.NewPCG(o.Seed, 2))
	dir := filepath.Join(o.Dir, "update")
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	b := &updated{
		o:       box.Options{Image: image, Dir: dir, Config: []byte(updateConfig), UEFI: true, Memory: "1536M"},
		bundles: map[string]string{},
	}
	for i := range 3 { // one for each slot, and one that is in neither
		version := fmt.Sprintf("soak.%d", i+1)
		path, err := box.Variant(ctx, image, builder.Options{Flavour: "full", Out: filepath.Join(o.Dir, version), Version: version, SecurityVersion: 1})
		if err != nil {
			return err
		}
		b.bundles[version] = path
	}
	if err := b.first(ctx); err != nil {
		return err
	}
	b.m.fuse.measure()
	was := b.runs
	given, _, err := b.update(ctx)
	if err == nil {
		err = b.look(ctx)
	}
	if err != nil || b.runs != given {
		return fmt.Errorf("the update that was not interrupted: runs %s, want %s (%w)", b.runs, given, err)
	}
	counts := b.m.fuse.counts()
	out.print("  update %s to %s, not interrupted: %d writes, %d flushes, %d lasting TPM commands", was, given, counts[write], counts[flush], counts[chip])
	for i := range n {
		t.tried++
		begin := time.Now()
		k, at := point(r, counts)
		b.m.fuse.arm(k, at)
		from := b.runs
		was := from
		given, blown, err := b.update(ctx)
		if err != nil {
			return lost(ctx, out, t, b.m, dir, fmt.Errorf("update to %s: %w", given, err))
		}
		where := fmt.Sprintf("before %s %d of %d", k, at+1, counts[k])
		if !blown {
			where, was = "after the end", given
		}
		loss, err := b.m.cut(r.Uint64())
		if err != nil {
			return err
		}
		if err = b.on(ctx); err == nil {
			err = b.look(ctx)
		}
		if err == nil && b.runs != was && b.runs != given {
			err = fmt.Errorf("it runs %s", b.runs)
		}
		if err != nil {
			return lost(ctx, out, t, b.m, dir, fmt.Errorf("update %s to %s cut %s: %w", was, given, where, err))
		}
		out.print("  update %d, %s to %s, cut %s: %d sectors unflushed, %d dropped, %d reordered; runs %s after %d boots, %.0f s",
			i+1, from, given, where, loss.Unflushed, loss.Dropped, loss.Reordered, b.runs, b.m.boots(), time.Since(begin).Seconds())
	}
	return b.m.end()
}

// lost is how a life ends early; the machine's folder stays.
func lost(ctx context.Context, out *lines, t *tally, m *machine, dir string, err error) error {
	if ctx.Err() != nil { // nothing is known of a machine that was not waited for
		t.tried--
		return errors.Join(context.Cause(ctx), m.end())
	}
	t.lost++
	out.print("  LOST: %v; the machine is in %s", err, dir)
	if m != nil {
		for _, l := range m.Console() {
			out.print("    %s", l.Text)
		}
	}
	return m.end()
}

// first is the first power-on.
func (b *updated) first(ctx context.Context) (err error) {
	if b.m, err = on(ctx, b.o); err != nil {
		return err
	}
	if _, _, err := b.m.awaits(ctx, readyLine); err != nil {
		return err
	}
	if err := b.m.Login(ctx); err != nil {
		return err
	}
	if err := b.healthy(ctx); err != nil {
		return err
	}
	return b.look(ctx)
}

// on switches on and waits until the box is healthy.
func (b *updated) on(ctx context.Context) (err error) {
	b.m = nil
	if b.m, err = on(ctx, b.o); err != nil {
		return err
	}
	return b.healthy(ctx)
}

func (b *updated) healthy(ctx context.Context) error {
	groups, _, err := b.m.awaits(ctx, healthyLine)
	if err == nil {
		b.runs = groups[3]
	}
	return err
}

// look checks that the box says what it should of itself.
func (b *updated) look(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, stepLimit)
	defer cancel()
	text, err := b.m.Ctl(ctx, "update", "status", "-o", "json")
	if err != nil {
		return err
	}
	var s struct {
		Running, First, Next, Version, Blocked string
		Healthy                                bool
		Boots                                  int
		Slots                                  []struct{ Name, Digest, Code string }
	}
	if err := json.Unmarshal(text, &s); err != nil {
		return err
	}
	b.slots = map[string]string{}
	for _, slot := range s.Slots {
		b.slots[slot.Name] = slot.Digest
		if slot.Code == "slot-changed" || slot.Name == s.Running && slot.Digest == "" {
			return fmt.Errorf("slot %s: %s", slot.Name, slot.Code)
		}
	}
	if s.Version != b.runs || s.First != s.Running || s.Next != "" || s.Boots != 0 || !s.Healthy || s.Blocked != "" {
		return fmt.Errorf("status %+v", s)
	}
	if b.digests == nil {
		b.digests = map[string]string{}
	}
	b.digests[b.slots[s.Running]] = b.runs
	return nil
}

// update installs a version that is in neither slot, as far as is known, and waits until it is healthy or the fuse has
// blown.
func (b *updated) update(ctx context.Context) (given string, blown bool, err error) {
	held := map[string]bool{b.runs: true}
	for _, d := range b.slots {
		held[b.digests[d]] = true
	}
	for i := range 3 {
		if v := fmt.Sprintf("soak.%d", i+1); !held[v] {
			given = v
		}
	}
	if given == "" {
		return "", false, errors.New("no version is left")
	}
	// The connection may break when the box restarts: how it comes up tells.
	if _, blown, err = b.m.ctl(ctx, "update", "apply", b.bundles[given], "--reboot"); blown || err != nil {
		return given, blown, err
	}
	groups, blown, err := b.m.awaits(ctx, healthyLine)
	if err == nil && !blown {
		b.runs = groups[3]
	}
	return given, blown, err
}
