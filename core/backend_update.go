package core

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"time"

	"github.com/ratchetos/ratchet/boot/bundle"
	"github.com/ratchetos/ratchet/boot/ledger"
	"github.com/ratchetos/ratchet/boot/slot"
	"github.com/ratchetos/ratchet/core/api"
	"github.com/ratchetos/ratchet/core/api/apipb"
	"github.com/ratchetos/ratchet/core/config"
	"github.com/ratchetos/ratchet/core/host"
	"github.com/ratchetos/ratchet/core/memory"
	"github.com/ratchetos/ratchet/core/pid1"
	"github.com/ratchetos/ratchet/core/update"
)

// openUpdate makes what replaces the image; a workstation has none.
func (a *appliance) openUpdate() {
	if a.report == nil {
		return
	}
	o := update.Options{
		Report: a.report, CoreKey: a.handoff.secret, Firmware: slot.OpenFirmware(), Store: a.store,
		Ready: a.allReady, Clock: bootClock, Proxy: a.proxy, Say: a.say, Log: a.log,
		Restart: func(why string) {
			a.say("restarting: %s", why)
			a.finish(pid1.Reboot)
		},
	}
	if use, err := memory.Read(""); err == nil { // else it is not checked
		o.Memory = use.Total
	}
	o.Times = updateTimes(a.config)
	if a.attempts != nil {
		o.Attempts = a.attempts
	}
	if a.stateDir != "" {
		o.Dir = filepath.Join(a.stateDir, "update")
	}
	a.update = update.New(o)
}

func updateTimes(c *config.Config) update.Times {
	u := c.Update
	return update.Times{Healthy: time.Duration(u.Healthy), Deadline: time.Duration(u.Trial), Settle: time.Duration(u.Settle)}
}

// finish begins the end, unless it has begun already.
func (a *appliance) finish(end pid1.Action) {
	select {
	case a.end <- end:
	default:
	}
}

// allReady says whether every plugin of the configuration serves.
func (a *appliance) allReady() bool {
	a.mu.Lock()
	c := a.config
	a.mu.Unlock()
	return !slices.ContainsFunc(a.host.Status(), func(p host.PluginStatus) bool {
		return c.Plugins[p.Name].Enabled && p.State != "ready" && p.State != "degraded"
	})
}

// proxy is the one of the configuration in force.
func (a *appliance) proxy(*http.Request) (*url.URL, error) {
	a.mu.Lock()
	address := a.config.Update.Proxy
	a.mu.Unlock()
	if address == "" {
		return nil, nil
	}
	return url.Parse(address)
}

// updater is the part that replaces the image, or why there is none.
func (b backend) updater() (*update.Manager, error) {
	if b.a.update == nil {
		return nil, fmt.Errorf("%w: core runs on a workstation, which has no image slots", api.ErrPrecondition)
	}
	return b.a.update, nil
}

// changer is updater for what changes something.
func (b backend) changer() (*update.Manager, error) {
	if b.a.report != nil && !b.a.released() {
		return nil, fmt.Errorf("update the image: %w: %s", api.ErrNotReleased, b.a.report.Box.Reason)
	}
	return b.updater()
}

// UpdateStatus implements api.Backend.
func (b backend) UpdateStatus(ctx context.Context) (*apipb.UpdateStatusReply, error) {
	m, err := b.updater()
	if err != nil {
		return nil, err
	}
	s, err := m.Status(ctx)
	if err != nil {
		return nil, updateError(err)
	}
	reply := &apipb.UpdateStatusReply{
		Running: s.Running, Version: s.Version, SecurityVersion: uint32(s.SecurityVersion), Floor: uint32(s.Floor),
		Healthy: s.Healthy, Boots: uint32(s.Boots), First: s.First, Next: s.Next,
		SettlesInMs: s.SettlesIn.Milliseconds(), Blocked: s.Blocked,
	}
	for _, i := range s.Slots {
		reply.Slots = append(reply.Slots, &apipb.ImageSlot{
			Name: i.Slot, Digest: digestText(i.Digest), SecurityVersion: uint32(i.Version),
			Decision: string(i.Decision), Code: i.Code, Reason: i.Reason, Attempt: i.Attempt,
		})
	}
	if s.Last != nil {
		reply.Last = updateResult(*s.Last)
	}
	return reply, nil
}

// StageUpdate implements api.Backend.
func (b backend) StageUpdate(_ context.Context, offset uint64, data []byte) (uint64, error) {
	m, err := b.changer()
	if err != nil {
		return 0, err
	}
	size, err := m.Stage(int64(offset), data)
	return uint64(size), updateError(err)
}

// ApplyUpdate implements api.Backend.
func (b backend) ApplyUpdate(ctx context.Context, r *apipb.ApplyUpdateRequest, emit func(*apipb.UpdateProgress) error) error {
	m, err := b.changer()
	if err != nil {
		return err
	}
	res, err := m.Apply(ctx, update.Request{URL: r.GetUrl(), Restart: r.GetReboot(), Signer: api.Caller(ctx).Name}, updateProgress(emit))
	return endUpdate(res, err, emit)
}

// SettleUpdate implements api.Backend.
func (b backend) SettleUpdate(ctx context.Context, emit func(*apipb.UpdateProgress) error) error {
	m, err := b.changer()
	if err != nil {
		return err
	}
	res, err := m.Settle(ctx, api.Caller(ctx).Name, updateProgress(emit))
	return endUpdate(res, err, emit)
}

// RollbackUpdate implements api.Backend.
func (b backend) RollbackUpdate(ctx context.Context, reboot bool) (*apipb.RollbackUpdateReply, error) {
	m, err := b.changer()
	if err != nil {
		return nil, err
	}
	res, err := m.Rollback(ctx, reboot)
	if err != nil {
		return nil, updateError(err)
	}
	return &apipb.RollbackUpdateReply{Slot: res.Slot, SecurityVersion: uint32(res.SecurityVersion)}, nil
}

// updateProgress passes progress on. Whoever stopped listening is no reason to stop: the result is in the status.
func updateProgress(emit func(*apipb.UpdateProgress) error) update.Progress {
	return func(phase string, done, total int64) {
		_ = emit(&apipb.UpdateProgress{Phase: phase, Done: uint64(done), Total: uint64(total)})
	}
}

func endUpdate(r update.Result, err error, emit func(*apipb.UpdateProgress) error) error {
	if err != nil {
		return updateError(err)
	}
	return emit(&apipb.UpdateProgress{Result: updateResult(r)})
}

func updateResult(r update.Result) *apipb.UpdateResult {
	return &apipb.UpdateResult{
		Version: r.Version, SecurityVersion: uint32(r.SecurityVersion), Slot: r.Slot, Digest: digestText(r.Digest), Attempt: r.Attempt,
		Bytes: uint64(r.Bytes), WriteMs: r.Write.Milliseconds(), ReadMs: r.Read.Milliseconds(), Reboot: r.Restart, Problem: r.Problem,
	}
}

// digestText is empty for a slot that holds nothing good.
func digestText(d ledger.Digest) string {
	if d == (ledger.Digest{}) {
		return ""
	}
	return d.String()
}

// updateError gives errors of an update their meaning on the wire.
func updateError(err error) error {
	for _, c := range []struct{ is, as error }{
		{update.ErrBusy, api.ErrPrecondition},
		{update.ErrBlocked, api.ErrPrecondition},
		{update.ErrNothing, api.ErrPrecondition},
		{update.ErrStorage, api.ErrPrecondition},
		{update.ErrOffset, api.ErrInvalid},
		{update.ErrSource, api.ErrUnavailable},
		{bundle.ErrSigner, api.ErrInvalid},
		{bundle.ErrDamaged, api.ErrInvalid},
		{bundle.ErrOther, api.ErrInvalid},
		{bundle.ErrOld, api.ErrInvalid},
	} {
		if errors.Is(err, c.is) {
			return fmt.Errorf("%w: %w", c.as, err)
		}
	}
	return err
}
