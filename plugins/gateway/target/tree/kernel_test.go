package tree

import (
	"fmt"
	"maps"
	"path"
	"strings"
)

// kernel is configfs as far as the order of operations matters: what the real one refuses, it refuses.
type kernel struct {
	dirs  map[string]bool
	links map[string]string
	attrs map[string]string
}

func newKernel() *kernel {
	return &kernel{dirs: map[string]bool{}, links: map[string]string{}, attrs: map[string]string{}}
}

func (k *kernel) snapshot(want []Node) Snapshot {
	s := Snapshot{Dirs: maps.Clone(k.dirs), Links: maps.Clone(k.links), Attrs: map[string]string{}}
	for _, p := range Attributes(want) {
		if value, ok := k.attrs[p]; ok {
			s.Attrs[p] = value + "\n"
		}
		if strings.HasSuffix(p, "vpd_unit_serial") && s.Attrs[p] != "" {
			s.Attrs[p] = "T10 VPD Unit Serial Number: " + s.Attrs[p]
		}
	}
	return s
}

// exists says whether a directory is there: made, or come with one that was.
func (k *kernel) exists(dir string) bool {
	if k.dirs[dir] {
		return true
	}
	if Made(dir) {
		return false
	}
	return !strings.Contains(dir, "/") || k.exists(path.Dir(dir))
}

func (k *kernel) do(op Op) error {
	switch op.Do {
	case Mkdir:
		if k.dirs[op.Path] || !Made(op.Path) || !k.exists(path.Dir(op.Path)) {
			return fmt.Errorf("it exists, or cannot")
		}
		k.dirs[op.Path] = true
		if strings.HasPrefix(op.Path, hba+"/") {
			k.attrs[op.Path+"/attrib/emulate_tpu"] = "0"
		}
		if ok, _ := path.Match("nvmet/subsystems/*", op.Path); ok {
			k.attrs[op.Path+"/attr_serial"], k.attrs[op.Path+"/attr_model"] = "98c4f45b406086634095", "Linux"
		}
	case Rmdir:
		if !k.dirs[op.Path] {
			return fmt.Errorf("it does not exist")
		}
		for d := range k.dirs {
			if strings.HasPrefix(d, op.Path+"/") {
				return fmt.Errorf("%s is in it", d)
			}
		}
		for l, to := range k.links {
			if to == op.Path || strings.HasPrefix(l, op.Path+"/") {
				return fmt.Errorf("link %s holds it", l)
			}
		}
		if k.attrs[op.Path+"/enable"] == "1" && enabled(op.Path) {
			return fmt.Errorf("it is enabled")
		}
		delete(k.dirs, op.Path)
		for a := range k.attrs {
			if strings.HasPrefix(a, op.Path+"/") {
				delete(k.attrs, a)
			}
		}
	case Symlink:
		if k.links[op.Path] != "" || !MadeLink(op.Path) || !k.dirs[op.Value] || !k.exists(path.Dir(op.Path)) {
			return fmt.Errorf("it exists, or cannot")
		}
		if strings.HasPrefix(op.Value, "target/core/") && k.attrs[op.Value+"/enable"] != "1" {
			return fmt.Errorf("the backstore is not enabled")
		}
		k.links[op.Path] = op.Value
	case Unlink:
		if k.links[op.Path] == "" {
			return fmt.Errorf("it does not exist")
		}
		delete(k.links, op.Path)
	case Write:
		return k.write(op)
	}
	return nil
}

// held says whether a client can have a backstore, subsystem or port in use.
func (k *kernel) held(dir string) bool {
	for l, to := range k.links {
		if to == dir || strings.HasPrefix(l, dir+"/") {
			return true
		}
	}
	return false
}

func (k *kernel) write(op Op) error {
	dir, name := path.Dir(op.Path), path.Base(op.Path)
	if !k.exists(dir) {
		return fmt.Errorf("no such attribute")
	}
	switch name {
	case "control", "udev_path", "device_path", "device_uuid", "device_nguid":
		if k.attrs[dir+"/enable"] == "1" && name != "udev_path" {
			return fmt.Errorf("in use")
		}
	case "vpd_unit_serial", "vendor_id", "product_id", "res_aptpl_metadata":
		if k.held(path.Dir(dir)) {
			return fmt.Errorf("exported already")
		}
	case "attr_serial", "attr_model":
		if k.held(dir) {
			return fmt.Errorf("discovered already")
		}
	case "addr_traddr", "addr_trsvcid", "addr_trtype", "addr_adrfam":
		if k.held(dir) {
			return fmt.Errorf("the port is enabled")
		}
	}
	k.attrs[op.Path] = op.Value
	return nil
}

// exported lists the block devices that clients can reach, one entry an export.
func (k *kernel) exported() []string {
	var out []string
	for l, to := range k.links {
		if ok, _ := path.Match("target/iscsi/*/tpgt_*/lun/lun_*/*", l); ok && k.attrs[path.Dir(path.Dir(path.Dir(l)))+"/enable"] == "1" {
			out = append(out, k.attrs[to+"/udev_path"])
		}
	}
	for d := range k.dirs {
		if ok, _ := path.Match("nvmet/subsystems/*/namespaces/*", d); ok && k.attrs[d+"/enable"] == "1" {
			out = append(out, k.attrs[d+"/device_path"])
		}
	}
	return out
}
