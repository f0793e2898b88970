package guest

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/ratchetos/ratchet/plugins/migration/agent/wire"
)

const memoryDir = "sys/devices/system/memory"

// memory is MemTotal in bytes.
func (a *Agent) memory() uint64 {
	for line := range strings.Lines(a.sys.text("proc/meminfo")) {
		if rest, ok := strings.CutPrefix(line, "MemTotal:"); ok {
			n, _ := strconv.ParseUint(strings.Fields(rest + " 0")[0], 10, 53)
			return n << 10
		}
	}
	return 0
}

// onlineMemory brings blocks online as movable, so that they can be taken away again. A virtio-mem device adds the next
// blocks only while few of its blocks are offline, hence again and again.
func (a *Agent) onlineMemory(ctx context.Context, want wire.Memory) (wire.Memory, error) {
	var refused error
	reached := poll(ctx, func() bool {
		for _, b := range a.blocks() {
			if a.sys.text(memoryDir, b, "state") == "offline" {
				if err := a.sys.set("online_movable", memoryDir, b, "state"); err != nil {
					refused = err
				}
			}
		}
		return a.memory() >= want.Bytes
	})
	return a.memoryReached(reached, want, refused)
}

// offlineMemory takes movable blocks offline, the highest first. Those of virtio-mem are left alone: their driver does it
// when the device is asked to shrink, and knows better which.
func (a *Agent) offlineMemory(ctx context.Context, want wire.Memory) (wire.Memory, error) {
	size, err := strconv.ParseUint(a.sys.text(memoryDir, "block_size_bytes"), 16, 63)
	if err != nil {
		return wire.Memory{}, &wire.Error{Code: wire.Refused, Text: "this kernel cannot take memory offline"}
	}
	theirs := virtioMem(a.sys.text("proc/iomem"))
	var refused error
	reached := poll(ctx, func() bool {
		for _, b := range slices.Backward(a.blocks()) {
			if a.memory() <= want.Bytes {
				return true
			}
			index, err := strconv.ParseUint(a.sys.text(memoryDir, b, "phys_index"), 16, 63)
			if err != nil || theirs.has(index*size) || a.sys.text(memoryDir, b, "state") != "online" || a.sys.text(memoryDir, b, "valid_zones") != "Movable" {
				continue
			}
			// A page in use may keep the kernel busy for long; it gives up by itself.
			if err := a.sys.set("offline", memoryDir, b, "state"); err != nil {
				refused = err
			}
		}
		return a.memory() <= want.Bytes
	})
	return a.memoryReached(reached, want, refused)
}

// blocks are the names of the memory blocks by address.
func (a *Agent) blocks() []string {
	var out []string
	for _, name := range a.sys.names(memoryDir) {
		if blockNumber(name) >= 0 {
			out = append(out, name)
		}
	}
	slices.SortFunc(out, func(x, y string) int { return blockNumber(x) - blockNumber(y) })
	return out
}

func blockNumber(name string) int {
	digits, ok := strings.CutPrefix(name, "memory")
	n, err := strconv.Atoi(digits)
	if !ok || err != nil {
		return -1
	}
	return n
}

func (a *Agent) memoryReached(reached bool, want wire.Memory, refused error) (wire.Memory, error) {
	now := wire.Memory{Bytes: a.memory()}
	if reached {
		return now, nil
	}
	offline := 0
	for _, b := range a.blocks() {
		if a.sys.text(memoryDir, b, "state") == "offline" {
			offline++
		}
	}
	text := fmt.Sprintf("the kernel has %d KiB, not %d; %d blocks are offline", now.Bytes>>10, want.Bytes>>10, offline)
	if refused != nil {
		text += ": " + refused.Error()
	}
	return now, &wire.Error{Code: wire.NotReached, Text: text}
}

// ranges are spans of physical addresses, both ends included.
type ranges [][2]uint64

func (r ranges) has(addr uint64) bool {
	return slices.ContainsFunc(r, func(x [2]uint64) bool { return x[0] <= addr && addr <= x[1] })
}

// virtioMem finds what virtio-mem devices have added, in /proc/iomem.
func virtioMem(iomem string) ranges {
	var out ranges
	for line := range strings.Lines(iomem) {
		span, name, ok := strings.Cut(strings.TrimSpace(line), " : ")
		if !ok || name != "System RAM (virtio_mem)" {
			continue
		}
		first, last, _ := strings.Cut(span, "-")
		from, err := strconv.ParseUint(first, 16, 64)
		to, err2 := strconv.ParseUint(last, 16, 64)
		if err == nil && err2 == nil {
			out = append(out, [2]uint64{from, to})
		}
	}
	return out
}
