package hw

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ratchetos/ratchet/hw/internal/fakesys"
	"github.com/ratchetos/ratchet/hw/kmod"
)

// imageModules are those that the image of the test carries: nvme is in the kernel already, the box has a RAID controller and
// no Mellanox.
const imageModules = `nvme kernel/nvme.ko
megaraid_sas kernel/megaraid_sas.ko
mlxfw kernel/mlxfw.ko
mlx5_core kernel/mlx5_core.ko mlxfw
ext4 kernel/ext4.ko
`

func TestDiscardModules(t *testing.T) {
	for name, c := range map[string]struct {
		files   map[string]string
		flavour string
		want    []string
	}{
		"nothing can be plugged": {nil, "full", []string{"ext4", "megaraid_sas"}},
		"a slot":                 {map[string]string{"sys/bus/pci/slots/3/address": "0000:03:00\n"}, "full", []string{"ext4", "megaraid_sas", "mlx5_core", "mlxfw"}},
		"a kernel of one's own":  {map[string]string{"proc/sys/kernel/osrelease": "7.0.0-mine\n"}, "", []string{"ext4", "megaraid_sas", "mlx5_core", "mlxfw", "nvme"}},
	} {
		t.Run(name, func(t *testing.T) {
			root := fakesys.New(t, box)
			put := func(path, text string) {
				path = filepath.Join(root, path)
				if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o600)); err != nil {
					t.Fatal(err)
				}
			}
			put(kmod.ClosurePath, imageModules)
			for line := range strings.Lines(imageModules) {
				put("lib/modules/"+strings.Fields(line)[1], "")
			}
			put("sys/module/nvme/initstate", "live\n")
			for path, text := range c.files {
				put(path, text)
			}
			s, err := Open(Options{Root: root})
			if err != nil {
				t.Fatal(err)
			}
			if s.flavour != c.flavour {
				t.Fatalf("flavour %q", s.flavour)
			}
			if err := s.DiscardModules(); err != nil {
				t.Fatal(err)
			}
			var left []string
			for _, path := range s.glob("lib/modules/kernel/*.ko") {
				left = append(left, strings.TrimSuffix(filepath.Base(path), ".ko"))
			}
			slices.Sort(left)
			if diff := cmp.Diff(c.want, left); diff != "" {
				t.Error(diff)
			}
		})
	}
}
