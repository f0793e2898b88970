package plugin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/ratchetos/ratchet/core/plugin/pluginpb"
	"github.com/ratchetos/ratchet/core/plugin/wire"
)

// server puts a Feature behind the contract.
type server struct {
	pluginpb.UnimplementedPluginServer
	feature Feature
	log     *slog.Logger
	control *wire.Control
	handles *handleTable
	host    *hostClient
	watch   *watch
	confine func(writable []string, network bool) error // nil: not asked for

	// life serialises Configure, Start and Stop; Invoke holds the reading side.
	life    sync.RWMutex
	calls   calls // of Invoke
	started bool
	stopped atomic.Bool
	// invokes ends the running calls of Invoke before Stop takes life.
	invokes     context.Context
	endInvokes  context.CancelFunc
	invokesOnce sync.Once
}

var _ pluginpb.PluginServer = (*server)(nil)

// Describe answers from the feature.
func (s *server) Describe(context.Context, *pluginpb.DescribeRequest) (*pluginpb.Descriptor, error) {
	d := s.feature.Describe()
	d.ConfigSchema = SchemaOf(s.feature)
	return d, nil
}

// Validate answers from the feature.
func (s *server) Validate(ctx context.Context, doc *pluginpb.ConfigDocument) (*pluginpb.ValidateReply, error) {
	v := s.feature.Validate(ctx, section(doc))
	return &pluginpb.ValidateReply{Diagnostics: v.Diagnostics, Wants: v.Wants}, nil
}

// Configure stores the section, or applies it when the feature has been started.
func (s *server) Configure(ctx context.Context, doc *pluginpb.ConfigDocument) (*pluginpb.ConfigureReply, error) {
	giveWay := s.calls.giveWay()
	s.life.Lock()
	defer s.life.Unlock()
	giveWay()
	err := s.feature.Configure(ctx, section(doc))
	switch {
	case err == nil:
		return &pluginpb.ConfigureReply{}, nil
	case errors.Is(err, ErrNeedsRestart):
		return &pluginpb.ConfigureReply{Outcome: pluginpb.ConfigureReply_NEEDS_RESTART}, nil
	default:
		return &pluginpb.ConfigureReply{
			Outcome:     pluginpb.ConfigureReply_REJECTED,
			Diagnostics: []*pluginpb.Diagnostic{diagnosticf(pluginpb.Diagnostic_ERROR, "", "%v", err)},
		}, nil
	}
}

// Start collects the descriptors of the handles and starts the feature.
func (s *server) Start(ctx context.Context, req *pluginpb.StartRequest) (*pluginpb.StartReply, error) {
	s.life.Lock()
	defer s.life.Unlock()
	if s.started {
		return nil, status.Error(codes.FailedPrecondition, "started already: a restart is a new process")
	}
	session := &Session{
		Epoch: req.GetEpoch(), Handles: make(map[string]Handle, len(req.GetHandles())),
		Host: s.host, Report: s.watch.report, Log: s.log,
	}
	var writable []string
	network := false
	for _, p := range req.GetHandles() {
		h, err := s.handles.resolve(ctx, p)
		if err != nil {
			closeHandles(session.Handles)
			return nil, status.Errorf(codes.Unavailable, "%v", err)
		}
		session.Handles[h.Name] = h
		switch h.Kind {
		case pluginpb.Kind_DIRECTORY, pluginpb.Kind_FACILITY:
			if h.File == nil {
				continue // a facility without a directory
			}
			writable = append(writable, fmt.Sprintf("/proc/self/fd/%d", h.File.Fd()))
		case pluginpb.Kind_NIC:
			network = true
		}
	}
	if s.confine != nil {
		if err := s.confine(writable, network); err != nil {
			closeHandles(session.Handles)
			return nil, status.Errorf(codes.Internal, "confine files: %v", err)
		}
	}
	s.started = true
	if err := s.feature.Start(ctx, session); err != nil {
		return nil, status.Errorf(codes.Aborted, "start: %v", err)
	}
	_, _ = daemon.SdNotify(false, daemon.SdNotifyReady)
	return &pluginpb.StartReply{}, nil
}

// Watch streams the latest event.
func (s *server) Watch(_ *pluginpb.WatchRequest, stream grpc.ServerStreamingServer[pluginpb.Event]) error {
	return s.watch.stream(stream.Context(), stream.Send)
}

// Drain runs the feature's Drain, if it has one and was started, and streams what is left.
func (s *server) Drain(req *pluginpb.DrainRequest, stream grpc.ServerStreamingServer[pluginpb.DrainProgress]) error {
	d, ok := s.feature.(Drainer)
	if !ok {
		return nil
	}
	ctx := stream.Context()
	if ms := req.GetDeadlineMs(); ms > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Duration(ms)*time.Millisecond)
		defer cancel()
	}
	s.life.RLock()
	defer s.life.RUnlock()
	if !s.started {
		return nil
	}
	var mu sync.Mutex // features may report from several goroutines
	return d.Drain(ctx, func(n uint64) {
		mu.Lock()
		defer mu.Unlock()
		_ = stream.Send(&pluginpb.DrainProgress{InFlight: n}) // a lost watcher does not end the drain
	})
}

// Invoke runs one method of the feature's management service.
func (s *server) Invoke(ctx context.Context, req *pluginpb.InvokeRequest) (*pluginpb.InvokeReply, error) {
	i, ok := s.feature.(Invoker)
	if !ok {
		return nil, status.Error(codes.Unimplemented, "no management service")
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.invokeContext(), cancel)()
	s.life.RLock()
	defer s.life.RUnlock()
	if s.stopped.Load() || !s.started {
		return nil, status.Error(codes.FailedPrecondition, "not serving")
	}
	ctx, ended := s.calls.begin(ctx)
	defer ended()
	reply, err := i.Invoke(ctx, req.GetMethod(), req.GetJson())
	if err != nil && errors.Is(context.Cause(ctx), errConfigures) {
		return nil, status.Errorf(codes.Unavailable, "%v", errConfigures)
	}
	if err != nil {
		return nil, status.Errorf(codes.Aborted, "%v", err)
	}
	return &pluginpb.InvokeReply{Json: reply}, nil
}

// Stop ends the feature. The process goes when core shuts the connection down.
func (s *server) Stop(ctx context.Context, req *pluginpb.StopRequest) (*pluginpb.StopReply, error) {
	if ms := req.GetDeadlineMs(); ms > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Duration(ms)*time.Millisecond)
		defer cancel()
	}
	_, _ = daemon.SdNotify(false, daemon.SdNotifyStopping)
	if err := s.stopFeature(ctx); err != nil {
		return nil, status.Errorf(codes.Aborted, "stop: %v", err)
	}
	return &pluginpb.StopReply{}, nil
}

// stopFeature stops the feature once, if it was started.
func (s *server) stopFeature(ctx context.Context) error {
	s.invokeContext()
	s.endInvokes()
	s.life.Lock()
	defer s.life.Unlock()
	if !s.started || s.stopped.Swap(true) {
		return nil
	}
	return s.feature.Stop(ctx)
}

// invokeContext lives from the first Invoke to Stop.
func (s *server) invokeContext() context.Context {
	s.invokesOnce.Do(func() {
		s.invokes, s.endInvokes = context.WithCancel(context.Background())
	})
	return s.invokes
}

func section(doc *pluginpb.ConfigDocument) Section {
	return Section{JSON: doc.GetJson(), Generation: doc.GetGeneration()}
}

func closeHandles(handles map[string]Handle) {
	for _, h := range handles {
		if h.File != nil {
			h.File.Close()
		}
	}
}
