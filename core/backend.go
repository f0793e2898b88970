package core

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ratchetos/ratchet/core/api"
	"github.com/ratchetos/ratchet/core/api/apipb"
	"github.com/ratchetos/ratchet/core/memory"
	"github.com/ratchetos/ratchet/core/pid1"
	"github.com/ratchetos/ratchet/core/version"
)

// backend is the appliance as the API sees it.
type backend struct{ a *appliance }

var _ api.Backend = backend{}

// Status implements api.Backend.
func (b backend) Status(context.Context) (*apipb.StatusReply, error) {
	a := b.a
	name, err := os.Hostname()
	if err != nil {
		name = "unknown"
	}
	s := &apipb.StatusReply{Hostname: name, Version: version.Version, UptimeMs: time.Since(a.started).Milliseconds()}
	if m, err := memory.Read(""); err == nil {
		s.MemoryTotal, s.MemoryAvailable, s.MemoryCompressed = m.Total, m.Available, m.Compressed
	}
	s.MemorySettled = a.settled.Load()
	s.Processes = processes(os.Getpid())
	if r := a.report; r != nil {
		s.UptimeMs = bootClock().Milliseconds()
		s.Flavour, s.Slot, s.Development = r.Flavour, r.Slot, r.Development
		s.Counter, s.Expected = r.Counter, r.Expected
		s.Verdict = &apipb.Verdict{Decision: string(r.Box.Decision), Code: r.Box.Code, Reason: r.Box.Reason, Next: r.Box.Next}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	s.Config = &apipb.ConfigStatus{Digest: digest(a.yaml), Generation: a.applied}
	if a.pending != nil {
		s.Config.RevertInMs = max(1, time.Until(a.pending.at).Milliseconds())
	}
	if a.network != nil {
		s.Network = networkStatus(a.network.Status())
	}
	if a.clock != nil {
		c := a.clock.Status()
		s.Clock = &apipb.ClockStatus{Source: "rtc", Synchronised: c.Synced, OffsetUs: c.Offset.Microseconds()}
		if c.Synced {
			s.Clock.Source = strings.Join(c.Servers, " ")
		}
	}
	return s, nil
}

// Version implements api.Backend.
func (b backend) Version(context.Context) (*apipb.VersionReply, error) {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return nil, fmt.Errorf("read kernel version: %w", err)
	}
	v := version.Get()
	return &apipb.VersionReply{Version: v.Version, Commit: v.Commit, Go: v.Go, Kernel: unix.ByteSliceToString(u.Release[:])}, nil
}

// Power implements api.Backend.
func (b backend) Power(_ context.Context, action apipb.PowerAction) error {
	if b.a.report == nil {
		return fmt.Errorf("%w: core runs on a workstation and does not own its power", api.ErrPrecondition)
	}
	end := pid1.PowerOff
	if action == apipb.PowerAction_POWER_ACTION_REBOOT {
		end = pid1.Reboot
	}
	b.a.ordered()
	b.a.finish(end)
	return nil
}

// ShowConfig implements api.Backend.
func (b backend) ShowConfig(context.Context) (*apipb.ShowConfigReply, error) {
	b.a.mu.Lock()
	defer b.a.mu.Unlock()
	return &apipb.ShowConfigReply{Name: b.a.name, Yaml: b.a.yaml, Digest: digest(b.a.yaml)}, nil
}

// CheckConfig implements api.Backend.
func (b backend) CheckConfig(ctx context.Context, name string, yaml []byte) ([]*apipb.ConfigDiagnostic, error) {
	_, found := b.a.check(ctx, name, yaml)
	return api.Diagnostics(found), nil
}

// ApplyConfig implements api.Backend.
func (b backend) ApplyConfig(ctx context.Context, req *apipb.ApplyConfigRequest) (*apipb.ApplyConfigReply, error) {
	return b.a.apply(ctx, req)
}

// ConfirmConfig implements api.Backend.
func (b backend) ConfirmConfig(ctx context.Context) error { return b.a.confirm(ctx) }

// Counter implements api.Backend.
func (b backend) Counter(ctx context.Context) (*apipb.ShowCounterReply, error) {
	a := b.a
	if a.report == nil {
		return &apipb.ShowCounterReply{}, nil
	}
	r := a.report
	s := &apipb.ShowCounterReply{
		Tpm: r.TPM.Present, Counter: r.Counter, Expected: r.Expected,
		Verdict: &apipb.Verdict{Decision: string(r.Box.Decision), Code: r.Box.Code, Reason: r.Box.Reason, Next: r.Box.Next},
	}
	if t := r.TPM; t.Present {
		s.Measured = &apipb.Measured{Pcr7: t.PCR7, Pcr11: t.PCR11, SecureBoot: r.SecureBoot, SrkName: t.SRKName, Commands: uint32(t.Commands)}
	}
	if a.attempts == nil {
		return s, nil
	}
	now, err := a.attempts.Status(ctx)
	if err != nil {
		return nil, fmt.Errorf("read counter: %w", err)
	}
	s.Counter, s.Expected, s.Open = now.Counter, now.Expected, uint64(len(now.Open))
	for _, i := range now.Open {
		kind, target, _ := strings.Cut(i.Target, ":")
		s.Attempts = append(s.Attempts, &apipb.Attempt{
			Number: i.Number, Kind: kind, Target: target, From: i.From.String(), To: i.To.String(), Result: "open",
		})
	}
	return s, nil
}
