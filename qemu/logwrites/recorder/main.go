// Command recorder is PID 1 of the guest that package logwrites starts: /dev/vda is the disk of a volume, /dev/vdb takes the
// kernel's recording of it, /dev/vdc the journal of the object store. The seed and the number of ops come on the
// kernel's command line, as recorder.seed= and recorder.ops=.
package main

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/ratchetos/ratchet/boot/devmapper"
	"github.com/ratchetos/ratchet/plugins/gateway/volume/recorded"
	"github.com/ratchetos/ratchet/qemu/guest/inside"
)

const mapping = "recorded"

func main() { inside.Main(run) }

func run() error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Minute)
	defer cancel()
	seed, err := argument("recorder.seed=")
	if err != nil {
		return err
	}
	ops, err := argument("recorder.ops=")
	if err != nil {
		return err
	}
	node, err := devmapper.Map(mapping, devmapper.Target{Kind: "log-writes", Size: recorded.DiskSize, Params: "/dev/vda /dev/vdb"})
	if err != nil {
		return err
	}
	mark := func(text string) error { return devmapper.Send(mapping, "mark "+text) }
	if err := recorded.Run(ctx, recorded.Devices{Disk: node, Journal: "/dev/vdc"}, seed, int(ops), mark); err != nil {
		return err
	}
	return devmapper.Remove(mapping)
}

// argument reads a number of the kernel's command line.
func argument(name string) (uint64, error) {
	line, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return 0, err
	}
	for _, word := range strings.Fields(string(line)) {
		if rest, ok := strings.CutPrefix(word, name); ok {
			return strconv.ParseUint(rest, 10, 32)
		}
	}
	return 0, fmt.Errorf("no %s on the kernel's command line", name)
}
