package host

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/ratchetos/ratchet/core/plugin/pluginpb"
)

const (
	// callLimit bounds one call of a plugin to another, whatever its caller would wait: two that wait for each other
	// come free again.
	callLimit = time.Minute
	// maxCalls is how many calls of one plugin may be under way.
	maxCalls = 16
)

// methods are what a plugin can want of another: the right to call one method, as "gateway/volumes.handover".
type methods struct{ programs []Program }

var _ Resources = methods{}

// Identify implements Resources: many may have the same right.
func (m methods) Identify(_ context.Context, plugin string, w *pluginpb.Want) (string, error) {
	return "", m.check(plugin, w.GetSelector())
}

// Open implements Resources. There is nothing to open: that it is held is the right.
func (m methods) Open(_ context.Context, req Request) (Opened, error) {
	selector := req.Want.GetSelector()
	return Opened{Handle: &pluginpb.Handle{Id: selector}}, m.check(req.Plugin, selector)
}

// check says why the right cannot be given.
func (m methods) check(caller, selector string) error {
	name, method, _ := strings.Cut(selector, "/")
	if name == caller {
		return fmt.Errorf("method %q: a plugin does not call itself through core", selector)
	}
	for _, p := range m.programs {
		if p.Descriptor.GetName() != name {
			continue
		}
		if slices.ContainsFunc(p.Descriptor.GetMethods(), func(o *pluginpb.Method) bool { return o.GetName() == method }) {
			return nil
		}
		return fmt.Errorf("method %q: plugin %s has no such method", selector, name)
	}
	return fmt.Errorf("method %q: there is no plugin %q", selector, name)
}

// allows says whether the right to call is held.
func (s *handleSet) allows(selector string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, h := range s.open {
		if h.want.GetKind() == pluginpb.Kind_METHOD && h.want.GetSelector() == selector {
			return true
		}
	}
	return false
}

// Call passes one call on to another plugin and writes a line about it. It holds nothing of core's meanwhile, so that
// either of the two can be restarted or stopped.
func (s *service) Call(ctx context.Context, req *pluginpb.CallRequest) (*pluginpb.CallReply, error) {
	began := time.Now()
	reply, err := s.call(ctx, req)
	level, outcome := slog.LevelInfo, codes.OK
	if err != nil {
		level, outcome = slog.LevelWarn, status.Code(err)
	}
	// Never what was asked or answered: that may be secret.
	s.host.opts.Audit.Log(ctx, level, "audit", "procedure", "plugin call", "caller", s.unit.name,
		"target", req.GetPlugin()+"/"+req.GetMethod(), "outcome", outcome.String(), "took", time.Since(began))
	return reply, err
}

func (s *service) call(ctx context.Context, req *pluginpb.CallRequest) (*pluginpb.CallReply, error) {
	selector := req.GetPlugin() + "/" + req.GetMethod()
	if !s.unit.isActive(s.process) {
		return nil, status.Error(codes.FailedPrecondition, "a process that was not started cannot call")
	}
	if !s.unit.handles.allows(selector) {
		return nil, status.Errorf(codes.PermissionDenied, "%s may not call %s: its configuration does not ask for it", s.unit.name, selector)
	}
	select {
	case s.unit.calls <- struct{}{}:
		defer func() { <-s.unit.calls }()
	default:
		return nil, status.Errorf(codes.ResourceExhausted, "%d calls of %s are under way", maxCalls, s.unit.name)
	}
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	reply, err := s.host.Invoke(ctx, req.GetPlugin(), req.GetMethod(), req.GetJson(), "plugin "+s.unit.name)
	if err != nil {
		return nil, status.Error(callCode(ctx, err), err.Error())
	}
	return &pluginpb.CallReply{Json: reply}, nil
}

// callCode is what the caller can do about a failed call: Unavailable may be better in a moment.
func callCode(ctx context.Context, err error) codes.Code {
	away := (*awayError)(nil)
	switch {
	case ctx.Err() != nil:
		return status.FromContextError(ctx.Err()).Code()
	case errors.As(err, &away) && away.soon:
		return codes.Unavailable
	}
	switch status.Code(errors.Unwrap(err)) {
	case codes.Unavailable, codes.Canceled: // its process ended meanwhile; nobody else cancelled the call
		return codes.Unavailable
	}
	return codes.Aborted
}

// awayError says that a plugin has no process that serves.
type awayError struct {
	text string
	soon bool // it is enabled, and another process is on its way or will be tried
}

func (e *awayError) Error() string { return e.text }
