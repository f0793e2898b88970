package bench

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/encoding/protojson"

	"github.com/ratchetos/ratchet/core/api/apipb"
	"github.com/ratchetos/ratchet/qemu/box"
)

const (
	goalMemory = "<= 80"

	restAtMost = 2 * time.Minute
	restSteady = mib // between two looks
	// Each look is a login's worth of work for core: more often, and the box is not at rest.
	restEvery = 15 * time.Second
)

// settled waits until core says that what only the start needed has been given back, and the memory in use stays the
// same.
func settled(ctx context.Context, b *box.Box) (*apipb.StatusReply, error) {
	ctx, cancel := context.WithTimeout(ctx, restAtMost)
	defer cancel()
	tick := time.NewTicker(restEvery)
	defer tick.Stop()
	var last *apipb.StatusReply
	for {
		text, err := b.Ctl(ctx, "status", "-o", "json")
		if err != nil {
			return nil, err
		}
		now := new(apipb.StatusReply)
		if err := protojson.Unmarshal(text, now); err != nil {
			return nil, fmt.Errorf("read status: %w", err)
		}
		// For whoever wants to know where the memory is.
		if err := os.WriteFile(filepath.Join(b.Dir, "idle.json"), text, 0o644); err != nil {
			return nil, err
		}
		if last != nil && now.GetMemorySettled() && steady(used(last), used(now)) {
			return now, nil
		}
		last = now
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for the box to come to rest: %w", ctx.Err())
		}
	}
}

// used is MemTotal - MemAvailable in bytes.
func used(s *apipb.StatusReply) uint64 { return s.GetMemoryTotal() - s.GetMemoryAvailable() }

func steady(before, now uint64) bool { return max(before, now)-min(before, now) <= restSteady }

// recordMemory records what the box uses when nothing is asked of it, and what each process has its share in.
func (s *session) recordMemory(flavour string, idle *apipb.StatusReply) {
	s.figures.Record("boot.mem_used_"+flavour, Figure{Value: float64(used(idle)) / mib, Unit: "MiB", Goal: goalMemory})
	s.figures.Record("boot.mem_compressed_"+flavour, Figure{Value: float64(idle.GetMemoryCompressed()) / mib, Unit: "MiB"})
	serving := map[int32]bool{}
	for _, p := range idle.GetPlugins() {
		serving[p.GetPid()] = true
	}
	var names []string
	var serves []bool
	for _, p := range idle.GetProcesses() {
		name := p.GetName()
		if p.GetParent() == 0 {
			name = "core"
		}
		names, serves = append(names, name), append(serves, p.GetParent() == 0 || serving[p.GetPid()])
	}
	sum := uint64(0)
	for i, name := range processNames(names, serves) {
		pss := idle.GetProcesses()[i].GetPss()
		sum += pss
		s.figures.Record("boot.pss_"+flavour+"_"+name, Figure{Value: float64(pss) / mib, Unit: "MiB"})
	}
	s.figures.Record("boot.pss_"+flavour+"_sum", Figure{Value: float64(sum) / mib, Unit: "MiB"})
}

// processNames gives each process of a box a name of its own: the second process of a plugin is its spare.
func processNames(names []string, serving []bool) []string {
	out := make([]string, len(names))
	taken := make(map[string]int)
	for i, name := range names {
		name = strings.NewReplacer("-", "_", ".", "_", " ", "_").Replace(name)
		if !serving[i] {
			name += "_spare"
		}
		out[i] = name
		if taken[name]++; taken[name] > 1 {
			out[i] += strconv.Itoa(taken[name])
		}
	}
	return out
}
