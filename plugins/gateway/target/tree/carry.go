package tree

import (
	"fmt"
	"path"

	"github.com/ratchetos/ratchet/plugins/gateway/target/exports"
)

// Carry carries operations out in their order. What the kernel refuses of one group ends that group, and the others go on:
// failed says why, by group. What several depend on, and whatever is taken away, ends all with err: nothing may be
// exported while it could be exported elsewhere still.
func Carry(ops []Op, do func(Op) error) (failed map[string]error, err error) {
	failed = map[string]error{}
	for _, op := range ops {
		if failed[op.Group] != nil {
			continue
		}
		if failed[op.port] != nil {
			failed[op.Group] = failed[op.port]
			continue
		}
		err := do(op)
		switch {
		case err == nil:
		case op.Group == "":
			return failed, fmt.Errorf("%s: %w", op, err)
		default:
			failed[op.Group] = fmt.Errorf("%s: %w", op, err)
		}
	}
	return failed, nil
}

// Away are the operations of a plan that take something away. They are its first.
func Away(ops []Op) []Op {
	for i, op := range ops {
		if op.Group != "" || op.Do == Mkdir || op.Do == Symlink {
			return ops[:i]
		}
	}
	return ops
}

// GroupOf is the group of an export.
func GroupOf(e exports.Export) string { return string(e.Protocol) + "/" + e.Volume }

// Exported says whether clients can get in to an export, as it is or as it was before.
func Exported(e exports.Export, have Snapshot) bool {
	on, way := path.Join("target/iscsi", e.Name, "tpgt_1/enable"), path.Join("target/iscsi", e.Name, "tpgt_1/lun/lun_0/*")
	if e.Protocol == exports.ProtocolNVMe {
		on, way = path.Join("nvmet/subsystems", e.Name, "namespaces/1/enable"), path.Join("nvmet/ports/*/subsystems", e.Name)
	}
	if !equal(have.Attrs[on], "1") {
		return false
	}
	for link := range have.Links {
		if ok, _ := path.Match(way, link); ok {
			return true
		}
	}
	return false
}
