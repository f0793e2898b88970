package api

import (
	"context"
	"fmt"

	"connectrpc.com/connect"

	"github.com/ratchetos/ratchet/core/api/apipb"
	"github.com/ratchetos/ratchet/core/api/apipb/apipbconnect"
	"github.com/ratchetos/ratchet/core/api/pki"
	"github.com/ratchetos/ratchet/core/plugin/pluginpb"
)

// The services are views of one server; several have a method of the same name.
type (
	system   struct{ *Server }
	plugins  struct{ *Server }
	configs  struct{ *Server }
	hardware struct{ *Server }
	counter  struct{ *Server }
)

var (
	_ apipbconnect.SystemHandler   = system{}
	_ apipbconnect.PluginsHandler  = plugins{}
	_ apipbconnect.ConfigHandler   = configs{}
	_ apipbconnect.HardwareHandler = hardware{}
	_ apipbconnect.CounterHandler  = counter{}
)

func (s system) Status(ctx context.Context, _ *apipb.StatusRequest) (*apipb.StatusReply, error) {
	reply, err := s.backend.Status(ctx)
	if err != nil {
		return nil, err
	}
	if reply.Plugins, err = s.backend.Plugins(ctx); err != nil {
		return nil, err
	}
	return reply, nil
}

func (s system) Version(ctx context.Context, _ *apipb.VersionRequest) (*apipb.VersionReply, error) {
	return s.backend.Version(ctx)
}

func (s system) Power(ctx context.Context, r *apipb.PowerRequest) (*apipb.PowerReply, error) {
	switch r.GetAction() {
	case apipb.PowerAction_POWER_ACTION_OFF, apipb.PowerAction_POWER_ACTION_REBOOT:
		return &apipb.PowerReply{}, s.backend.Power(ctx, r.GetAction())
	}
	return nil, fmt.Errorf("%w: power action %d does not exist", ErrInvalid, r.GetAction())
}

func (s plugins) List(ctx context.Context, _ *apipb.ListPluginsRequest) (*apipb.ListPluginsReply, error) {
	list, err := s.backend.Plugins(ctx)
	return &apipb.ListPluginsReply{Plugins: list}, err
}

func (s plugins) Restart(ctx context.Context, r *apipb.RestartRequest) (*apipb.RestartReply, error) {
	return &apipb.RestartReply{}, s.backend.RestartPlugin(ctx, r.GetPlugin(), r.GetKill())
}

func (s plugins) Logs(ctx context.Context, r *apipb.LogsRequest, out *connect.ServerStream[apipb.LogLine]) error {
	if id := Caller(ctx); r.GetPlugin() == AuditTrail && id.Role < pki.Operator {
		err := connect.NewError(connect.CodePermissionDenied, fmt.Errorf("the audit trail needs the role operator, %s is %s", id.Name, id.Role))
		s.audit(ctx, apipbconnect.PluginsLogsProcedure, AuditTrail, 0, err)
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.ending, cancel)()
	return s.backend.PluginLogs(ctx, r.GetPlugin(), int(r.GetTail()), r.GetFollow(), out.Send)
}

func (s plugins) Invoke(ctx context.Context, r *apipb.InvokeRequest) (*apipb.InvokeReply, error) {
	method, err := s.method(ctx, r.GetPlugin(), r.GetMethod())
	if err != nil {
		return nil, err
	}
	id := Caller(ctx)
	if method.GetReadOnly() {
		skipAudit(ctx)
	} else if id.Role < pki.Operator {
		return nil, connect.NewError(connect.CodePermissionDenied,
			fmt.Errorf("%s of plugin %s needs the role operator, %s is %s", r.GetMethod(), r.GetPlugin(), id.Name, id.Role))
	}
	reply, err := s.backend.Invoke(ctx, r.GetPlugin(), r.GetMethod(), r.GetJson(), id.Name)
	if err != nil {
		return nil, err
	}
	return &apipb.InvokeReply{Json: reply}, nil
}

// method looks a plugin's method up, so that a typing mistake is answered without the plugin.
func (s plugins) method(ctx context.Context, plugin, method string) (*pluginpb.Method, error) {
	list, err := s.backend.Plugins(ctx)
	if err != nil {
		return nil, err
	}
	for _, p := range list {
		if p.GetName() != plugin {
			continue
		}
		for _, m := range p.GetMethods() {
			if m.GetName() == method {
				return m, nil
			}
		}
		return nil, fmt.Errorf("plugin %s has no method %q: %w", plugin, method, ErrNotFound)
	}
	return nil, fmt.Errorf("plugin %q: %w; see: ratchetctl plugin list", plugin, ErrNotFound)
}

func (s configs) Show(ctx context.Context, _ *apipb.ShowConfigRequest) (*apipb.ShowConfigReply, error) {
	return s.backend.ShowConfig(ctx)
}

func (s configs) Check(ctx context.Context, r *apipb.CheckConfigRequest) (*apipb.CheckConfigReply, error) {
	d, err := s.backend.CheckConfig(ctx, r.GetName(), r.GetYaml())
	return &apipb.CheckConfigReply{Diagnostics: d}, err
}

func (s configs) Apply(ctx context.Context, r *apipb.ApplyConfigRequest) (*apipb.ApplyConfigReply, error) {
	if r.GetConfirmMs() < 0 {
		return nil, fmt.Errorf("%w: the time to confirm is negative", ErrInvalid)
	}
	return s.backend.ApplyConfig(ctx, r)
}

func (s configs) Confirm(ctx context.Context, _ *apipb.ConfirmConfigRequest) (*apipb.ConfirmConfigReply, error) {
	return &apipb.ConfirmConfigReply{}, s.backend.ConfirmConfig(ctx)
}

func (s hardware) List(ctx context.Context, _ *apipb.ListHardwareRequest) (*apipb.ListHardwareReply, error) {
	list, err := s.backend.Hardware(ctx)
	return &apipb.ListHardwareReply{Devices: list}, err
}

func (s hardware) Claim(ctx context.Context, r *apipb.ClaimRequest) (*apipb.ClaimReply, error) {
	device, err := s.backend.ClaimDevice(ctx, r.GetSelector(), r.GetErase())
	return &apipb.ClaimReply{Device: device}, err
}

func (s hardware) Release(ctx context.Context, r *apipb.ReleaseRequest) (*apipb.ReleaseReply, error) {
	return &apipb.ReleaseReply{}, s.backend.ReleaseDevice(ctx, r.GetSelector())
}

func (s counter) Show(ctx context.Context, _ *apipb.ShowCounterRequest) (*apipb.ShowCounterReply, error) {
	return s.backend.Counter(ctx)
}
