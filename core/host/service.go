package host

import (
	"context"
	"errors"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/ratchetos/ratchet/core/plugin/pluginpb"
	"github.com/ratchetos/ratchet/core/state"
)

// maxHostMessage bounds one message of a plugin to core: a value and its key.
const maxHostMessage = state.MaxValue + 64<<10

// service is the Host service of one process. Who calls is known from the connection, so a
// plugin can only reach its own keys and handles.
type service struct {
	pluginpb.UnimplementedHostServer
	host    *Host
	unit    *unit
	process *process
}

var _ pluginpb.HostServer = (*service)(nil)

// space is where a plugin's keys are.
func (s *service) space() string { return "plugin/" + s.unit.name }

// Claim opens one more thing and sends its descriptor before it answers.
func (s *service) Claim(ctx context.Context, req *pluginpb.ClaimRequest) (*pluginpb.ClaimReply, error) {
	w := req.GetWant()
	if w == nil {
		return nil, status.Error(codes.InvalidArgument, "claim without a want")
	}
	if w.GetKind() == pluginpb.Kind_METHOD {
		return nil, status.Error(codes.PermissionDenied, "the right to call another plugin comes from the configuration alone")
	}
	if !s.unit.isActive(s.process) {
		return nil, status.Error(codes.FailedPrecondition, "a process that was not started cannot claim")
	}
	r, err := s.host.request(s.unit)
	if err != nil {
		return nil, status.Errorf(codes.Internal, "%v", err)
	}
	if err := s.host.claim(ctx, s.unit, []*pluginpb.Want{w}, false); err != nil {
		return nil, status.Errorf(codes.FailedPrecondition, "%v", err)
	}
	r.Want = w
	h, err := s.unit.handles.add(ctx, s.host.resources, r)
	if err != nil {
		s.unit.unclaim(w.GetName())
		return nil, status.Errorf(codes.FailedPrecondition, "%v", err)
	}
	p, err := h.send(s.process.control, time.Now().Add(sendTimeout))
	if err != nil {
		s.unit.unclaim(w.GetName())
		return nil, status.Errorf(codes.Unavailable, "%v", errors.Join(err, s.unit.handles.drop(w.GetName())))
	}
	if h.opened.Sent != nil {
		h.opened.Sent(h.opened.Handle)
	}
	return &pluginpb.ClaimReply{Handle: p}, nil
}

// Release gives a claimed thing back.
func (s *service) Release(_ context.Context, req *pluginpb.ReleaseRequest) (*pluginpb.ReleaseReply, error) {
	if err := s.unit.handles.drop(req.GetName()); err != nil {
		return nil, status.Errorf(codes.NotFound, "%v", err)
	}
	s.unit.unclaim(req.GetName())
	return &pluginpb.ReleaseReply{}, nil
}

// Get reads one of the plugin's keys.
func (s *service) Get(ctx context.Context, req *pluginpb.GetRequest) (*pluginpb.GetReply, error) {
	v, found, err := s.host.store.Get(ctx, s.space(), req.GetKey())
	if err != nil {
		return nil, asStatus(err)
	}
	return &pluginpb.GetReply{Value: v, Found: found}, nil
}

// Put writes one of the plugin's keys.
func (s *service) Put(ctx context.Context, req *pluginpb.PutRequest) (*pluginpb.PutReply, error) {
	if err := s.host.store.Put(ctx, s.space(), req.GetKey(), req.GetValue()); err != nil {
		return nil, asStatus(err)
	}
	return &pluginpb.PutReply{}, nil
}

// Delete removes one of the plugin's keys.
func (s *service) Delete(ctx context.Context, req *pluginpb.DeleteRequest) (*pluginpb.DeleteReply, error) {
	if err := s.host.store.Delete(ctx, s.space(), req.GetKey()); err != nil {
		return nil, asStatus(err)
	}
	return &pluginpb.DeleteReply{}, nil
}

// List lists the plugin's keys.
func (s *service) List(ctx context.Context, req *pluginpb.ListRequest) (*pluginpb.ListReply, error) {
	keys, err := s.host.store.List(ctx, s.space(), req.GetPrefix())
	if err != nil {
		return nil, asStatus(err)
	}
	return &pluginpb.ListReply{Keys: keys}, nil
}

func asStatus(err error) error {
	code := codes.Internal
	if errors.Is(err, state.ErrTooLarge) || errors.Is(err, state.ErrEmptyName) {
		code = codes.InvalidArgument
	}
	return status.Error(code, err.Error())
}
