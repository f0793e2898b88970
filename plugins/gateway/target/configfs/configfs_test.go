package configfs

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ratchetos/ratchet/plugins/gateway/target/tree"
)

// TestTree works on an ordinary directory. What only configfs does – attributes that appear with their directory, and
// refusals – is tested in a machine (qemu/systems).
func TestTree(t *testing.T) {
	mount := t.TempDir()
	for _, d := range []string{"target/core/alua", "target/iscsi", "nvmet/hosts", "nvmet/subsystems", "nvmet/ports", "other"} {
		if err := os.MkdirAll(filepath.Join(mount, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	c, err := Open(mount, "target", "nvmet")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	apply := func(ops ...tree.Op) (err error) {
		for _, op := range ops {
			err = errors.Join(err, c.Do(op))
		}
		return err
	}
	if err := apply([]tree.Op{
		{Do: tree.Mkdir, Path: "target/core/iblock_0"},
		{Do: tree.Mkdir, Path: "target/core/iblock_0/vm"},
		{Do: tree.Mkdir, Path: "target/core/iblock_0/vm"},
		{Do: tree.Mkdir, Path: "nvmet/hosts/nqn.h"},
		{Do: tree.Mkdir, Path: "nvmet/subsystems/nqn.s"},
	}...); err != nil {
		t.Fatal(err)
	}
	for _, made := range []string{"nvmet/subsystems/nqn.s/allowed_hosts", "nvmet/subsystems/nqn.s/namespaces", "target/core/iblock_0/vm/attrib"} {
		if err := os.Mkdir(filepath.Join(mount, made), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	enable := "target/core/iblock_0/vm/enable"
	if err := os.WriteFile(filepath.Join(mount, enable), []byte("0\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	link := "nvmet/subsystems/nqn.s/allowed_hosts/nqn.h"
	if err := apply(tree.Op{Do: tree.Symlink, Path: link, Value: "nvmet/hosts/nqn.h"}, tree.Op{Do: tree.Write, Path: enable, Value: "1"}); err != nil {
		t.Fatal(err)
	}
	got, err := c.Read([]string{enable, "target/core/iblock_0/vm/none"})
	if err != nil {
		t.Fatal(err)
	}
	want := tree.Snapshot{
		Dirs: map[string]bool{
			"target/iscsi": true, "target/core/iblock_0": true, "target/core/iblock_0/vm": true, "nvmet/hosts/nqn.h": true, "nvmet/subsystems/nqn.s": true,
		},
		Links: map[string]string{link: "nvmet/hosts/nqn.h"},
		Attrs: map[string]string{enable: "1\n"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	// A missing attribute is not made, and what lies elsewhere is out of reach.
	for _, op := range []tree.Op{
		{Do: tree.Write, Path: "target/core/iblock_0/vm/none", Value: "1"},
		{Do: tree.Write, Path: "other/x", Value: "1"},
		{Do: tree.Mkdir, Path: "target/../other/x"},
		{Do: tree.Mkdir, Path: "/etc/x"},
	} {
		if err := c.Do(op); err == nil {
			t.Errorf("%s: no error", op)
		}
	}
	if err = c.Do(tree.Op{Do: tree.Write, Path: "target/core/iblock_0/vm/none", Value: "1"}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("error %q", err)
	}
	if err := apply(tree.Op{Do: tree.Unlink, Path: link}, tree.Op{Do: tree.Unlink, Path: link}); err != nil {
		t.Error(err)
	}
	if left, err := c.Read(nil); err != nil || len(left.Links) > 0 {
		t.Errorf("%v, %v", left.Links, err)
	}
}
