package dataplane

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/ratchetos/ratchet/plugins/dataplane/api"
	"github.com/ratchetos/ratchet/plugins/dataplane/bpf/decap"
	"github.com/ratchetos/ratchet/plugins/dataplane/bpf/fence"
	"github.com/ratchetos/ratchet/plugins/dataplane/bpf/group"
	"github.com/ratchetos/ratchet/plugins/dataplane/bpf/lb"
	"github.com/ratchetos/ratchet/plugins/dataplane/bpf/lease"
	"github.com/ratchetos/ratchet/plugins/dataplane/bpf/overlay"
)

// object is one compiled file of BPF programs, as it is embedded in the binary.
type object struct {
	name string
	spec func() (*ebpf.CollectionSpec, error)
}

// objects are all of them, those that hosts load too.
func objects() []object {
	return []object{
		{"lb", lb.Spec}, {"decap", decap.Spec}, {"fence", fence.Spec}, {"group", group.Spec}, {"lease", lease.Spec}, {"overlay", overlay.Spec},
	}
}

// probe loads every program once and lets go of it again: an answer from this kernel's own verifier, without touching
// what is attached.
func probe() ([]byte, error) {
	var reply api.ProbeReply
	var name unix.Utsname
	if err := unix.Uname(&name); err == nil {
		reply.Kernel = unix.ByteSliceToString(name.Release[:])
	}
	for _, o := range objects() {
		found, err := o.probe()
		if err != nil {
			return nil, err
		}
		reply.Programs = append(reply.Programs, found...)
	}
	return json.Marshal(reply)
}

func (o object) probe() ([]api.Program, error) {
	spec, err := o.spec()
	if err != nil {
		return nil, fmt.Errorf("read object %s: %w", o.name, err)
	}
	began := time.Now()
	c, err := ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{Programs: ebpf.ProgramOptions{LogLevel: ebpf.LogLevelStats}})
	took := time.Since(began)
	if err != nil { // without statistics the verifier says what it was at
		c, err = ebpf.NewCollection(spec)
	}
	var out []api.Program
	for _, p := range spec.Programs {
		a := api.Program{Object: o.name, Name: p.Name, Type: p.Type.String(), LoadMS: took.Milliseconds()}
		if err != nil {
			a.Problem = reason(err)
		} else {
			a.Verifier = c.Programs[p.Name].VerifierLog
		}
		out = append(out, a)
	}
	if err == nil {
		c.Close()
	}
	slices.SortFunc(out, func(a, b api.Program) int { return cmp.Compare(a.Name, b.Name) })
	return out, nil
}

// reason is why an object is refused, with the verifier's last words.
func reason(err error) string {
	if v := (*ebpf.VerifierError)(nil); errors.As(err, &v) {
		return fmt.Sprintf("%+.12v", v)
	}
	return err.Error()
}
