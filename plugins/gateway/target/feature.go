package target

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"

	"github.com/ratchetos/ratchet/core/plugin"
	"github.com/ratchetos/ratchet/core/plugin/pluginpb"
	"github.com/ratchetos/ratchet/plugins/gateway/api"
	"github.com/ratchetos/ratchet/plugins/gateway/target/configfs"
	"github.com/ratchetos/ratchet/plugins/gateway/target/exports"
	"github.com/ratchetos/ratchet/plugins/gateway/target/loopback"
	"github.com/ratchetos/ratchet/plugins/gateway/target/nbdlink"
)

// Names of the facilities in the hardware catalogue, and of the wants for them.
const (
	facilityNBD   = "nbd"
	facilityISCSI = "iscsi-target"
	facilityNVMe  = "nvme-target"
	wantState     = "state"
)

// Feature is the gateway's companion.
type Feature struct {
	mu      sync.Mutex
	list    []exports.Export
	service *service // nil while stopped
	keep    bool     // a next process takes over
}

var (
	_ plugin.Feature  = (*Feature)(nil)
	_ plugin.Invoker  = (*Feature)(nil)
	_ plugin.Handover = (*Feature)(nil)
)

// New makes the feature; it holds nothing until Start.
func New() *Feature { return &Feature{} }

// Describe implements plugin.Feature.
func (f *Feature) Describe() plugin.Descriptor {
	return &pluginpb.Descriptor{
		Name: "target", Version: "1", Summary: "the gateway's volumes over iSCSI and NVMe/TCP, through the kernel's targets",
		CompanionOf: "gateway", Handover: true,
		Capabilities: []string{"CAP_SYS_ADMIN", "CAP_DAC_OVERRIDE", "CAP_SYS_RESOURCE", "CAP_IPC_LOCK"},
		Methods:      []*pluginpb.Method{{Name: api.MethodClear, Summary: "give up the persistent reservations that are kept of one disk"}},
	}
}

// section is what matters here of the gateway's; the gateway itself is strict about all of it.
type section struct {
	Volumes []struct {
		Name  string `json:"name"`
		Store struct {
			Bucket string `json:"bucket"`
			Path   string `json:"path"`
			Prefix string `json:"prefix"`
		} `json:"store"`
	} `json:"volumes"`
	Target exports.Config `json:"target"`
}

func parse(s plugin.Section) ([]exports.Export, error) {
	var c section
	if err := json.Unmarshal(s.JSON, &c); err != nil {
		return nil, fmt.Errorf("read the gateway's section: %w", err)
	}
	volumes := make([]exports.Volume, len(c.Volumes))
	for i, v := range c.Volumes {
		bucket := v.Store.Bucket
		if bucket == "" {
			bucket = v.Store.Path
		}
		volumes[i] = exports.Volume{Name: v.Name, Place: exports.Place{Bucket: bucket, Prefix: v.Store.Prefix, Volume: v.Name}}
	}
	return c.Target.List(volumes), nil
}

// Validate implements plugin.Feature. Mistakes are the gateway's to find; without exports nothing is wanted, and the
// process is not started. Both targets are wanted for either: a process that takes over when the last export of one of
// them was removed must still be able to take it down.
func (f *Feature) Validate(_ context.Context, s plugin.Section) (v plugin.Validation) {
	list, err := parse(s)
	if err != nil || len(list) == 0 {
		return v
	}
	v.Wants = append(v.Wants, &pluginpb.Want{Name: wantState, Kind: pluginpb.Kind_DIRECTORY, Selector: "state", Path: "target"})
	for _, name := range []string{facilityNBD, facilityISCSI, facilityNVMe} {
		v.Wants = append(v.Wants, &pluginpb.Want{Name: name, Kind: pluginpb.Kind_FACILITY, Selector: name, Path: "target"})
	}
	return v
}

// Configure implements plugin.Feature. A started companion goes over to the new exports in the background; those that
// stay as they are do not notice.
func (f *Feature) Configure(_ context.Context, s plugin.Section) error {
	list, err := parse(s)
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.list = list
	if f.service != nil {
		f.service.want(list)
	}
	return nil
}

// Start implements plugin.Feature. It returns when the kernel can be talked to; exports come up by themselves as the
// gateway serves their volumes.
func (f *Feature) Start(_ context.Context, s *plugin.Session) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if s.Log == nil {
		s.Log = slog.Default()
	}
	if err := loopback.Harden(); err != nil {
		s.Log.Warn("the process that reconnects block devices is not protected against a shortage of memory", "err", err)
	}
	defer closeFiles(s.Handles)
	iscsi, nvme, state := s.Handles[facilityISCSI], s.Handles[facilityNVMe], s.Handles[wantState]
	if iscsi.ID == "" || nvme.ID == "" || state.ID == "" {
		return errors.New("core handed out no directory of configfs or STATE")
	}
	kept := filepath.Join(state.ID, facilityISCSI)
	// LIO makes files in these and not the directories; without them every persistent reservation fails.
	for _, dir := range []string{"pr", "alua"} {
		if err := os.MkdirAll(filepath.Join(kept, dir), 0o700); err != nil {
			return fmt.Errorf("make directory for reservations: %w", err)
		}
		if err := synchronous(filepath.Join(kept, dir)); err != nil {
			return err
		}
	}
	tree, err := configfs.Open(filepath.Dir(iscsi.ID), filepath.Base(iscsi.ID), filepath.Base(nvme.ID))
	if err != nil {
		return err
	}
	control, err := nbdlink.Open()
	if err != nil {
		tree.Close()
		return err
	}
	f.service = newService(options{
		control: control, tree: tree, socket: exports.Socket, reservations: filepath.Join(kept, "pr"), log: s.Log, report: s.Report,
	})
	f.service.want(f.list)
	f.service.start()
	return nil
}

// Invoke implements plugin.Invoker.
func (f *Feature) Invoke(ctx context.Context, method string, request []byte) ([]byte, error) {
	if method != api.MethodClear {
		return nil, fmt.Errorf("method %q is not known", method)
	}
	var q api.ClearRequest
	d := json.NewDecoder(bytes.NewReader(request))
	d.DisallowUnknownFields()
	if err := d.Decode(&q); err != nil {
		return nil, fmt.Errorf("read request: %w", err)
	}
	f.mu.Lock()
	s := f.service
	f.mu.Unlock()
	if s == nil {
		return nil, errors.New("the targets have not started")
	}
	var gone api.ClearedReservations
	var err error
	if e := s.between(ctx, func() { gone, err = s.forget(q.Name, q.Force) }); e != nil {
		return nil, e
	}
	if err != nil {
		return nil, err
	}
	return json.Marshal(gone)
}

// Export implements plugin.Handover: the exports live in the kernel, so all there is to hand over is that they stay.
func (f *Feature) Export(context.Context) (plugin.Luggage, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.keep = true
	return plugin.Luggage{}, nil
}

// Import implements plugin.Handover.
func (f *Feature) Import(_ context.Context, l plugin.Luggage) error {
	l.Close()
	return nil
}

// Stop implements plugin.Feature.
func (f *Feature) Stop(ctx context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.service == nil {
		return nil
	}
	err := f.service.stop(ctx, f.keep)
	f.service = nil
	return err
}

func closeFiles(handles map[string]plugin.Handle) {
	for _, h := range handles {
		if h.File != nil {
			h.File.Close()
		}
	}
}
