package host

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sys/unix"

	"github.com/ratchetos/ratchet/core/plugin"
	"github.com/ratchetos/ratchet/core/plugin/pluginpb"
	"github.com/ratchetos/ratchet/core/plugin/wire"
)

// TestMain lets the test binary be the plugins as well, as the appliance's binary is.
func TestMain(m *testing.M) {
	if shake := wire.Handshake(); os.Getenv(shake.MagicCookieKey) == shake.MagicCookieValue {
		var f plugin.Feature = &probe{name: os.Args[0]}
		if strings.HasPrefix(os.Args[0], "keeper") {
			f = &keeper{probe: probe{name: os.Args[0]}}
		}
		os.Exit(plugin.Serve(f, plugin.ServeOptions{}))
	}
	os.Exit(m.Run())
}

// probe is a feature that serves its pid on a socket and does as it is told.
type probe struct {
	name string
	cfg  probeConfig
	s    *plugin.Session
	l    net.Listener
	wg   sync.WaitGroup
}

type probeConfig struct {
	Listen   string `json:"listen,omitempty"`
	Disk     string `json:"disk,omitempty"`
	Optional bool   `json:"optional,omitempty"` // serves without the disk
	Memory   uint64 `json:"memory,omitempty"`
	State    bool   `json:"state,omitempty"`
	Bad      string `json:"bad,omitempty"`       // what Validate complains about
	FailAt   string `json:"fail_at,omitempty"`   // "start", "exit", "panic", "never", "validate", "validate once"
	Note     string `json:"note,omitempty"`      // shown as the message; applied in place
	Restarts string `json:"restarts,omitempty"`  // applied by a new process only
	SlowStop int    `json:"slow_stop,omitempty"` // milliseconds
	Calls    string `json:"calls,omitempty"`     // the method of another plugin that it may call
}

func descriptor(name string) *pluginpb.Descriptor {
	return &pluginpb.Descriptor{
		Name: name, Version: "1", Summary: "does as it is told",
		Capabilities: []string{"CAP_NET_ADMIN"},
		WarmSpare:    strings.HasPrefix(name, "spare"),
		OwnNetns:     strings.HasPrefix(name, "netns"),
		Handover:     strings.HasPrefix(name, "keeper"),
		Methods:      []*pluginpb.Method{{Name: "pid", ReadOnly: true}, {Name: "wait"}, {Name: "hang"}, {Name: "call"}},
	}
}

func (p *probe) Describe() plugin.Descriptor { return descriptor(p.name) }

func (p *probe) Validate(_ context.Context, s plugin.Section) (v plugin.Validation) {
	var c probeConfig
	if err := json.Unmarshal(s.JSON, &c); err != nil {
		v.Errorf("", "parse: %v", err)
		return v
	}
	if p.s != nil && (p.cfg.FailAt == "validate" || p.cfg.FailAt == "validate once" && p.s.Epoch == 1) {
		os.Exit(4)
	}
	if c.Bad != "" {
		v.Errorf("bad", "%s", c.Bad)
	}
	if c.Listen != "" {
		v.Wants = append(v.Wants, &pluginpb.Want{Name: "listen", Kind: pluginpb.Kind_LISTENER, Selector: c.Listen, Path: "listen"})
	}
	if c.Disk != "" {
		v.Wants = append(v.Wants, c.disk())
	}
	if c.Memory > 0 {
		v.Wants = append(v.Wants, &pluginpb.Want{Name: "memory", Kind: pluginpb.Kind_MEMORY, Size: c.Memory, Path: "memory"})
	}
	if c.State {
		v.Wants = append(v.Wants, &pluginpb.Want{Name: "state", Kind: pluginpb.Kind_DIRECTORY, Path: "state"})
	}
	if c.Calls != "" {
		v.Wants = append(v.Wants, &pluginpb.Want{Name: "calls", Kind: pluginpb.Kind_METHOD, Selector: c.Calls, Path: "calls"})
	}
	return v
}

func (c probeConfig) disk() plugin.Want {
	return &pluginpb.Want{Name: "disk", Kind: pluginpb.Kind_DISK, Selector: c.Disk, Path: "disk", Optional: c.Optional}
}

func (p *probe) Configure(_ context.Context, s plugin.Section) error {
	var c probeConfig
	if err := json.Unmarshal(s.JSON, &c); err != nil {
		return err
	}
	if p.s != nil && c.Restarts != p.cfg.Restarts {
		return plugin.ErrNeedsRestart
	}
	p.cfg = c
	if p.s != nil {
		p.s.Report(&pluginpb.Event{Message: c.Note})
	}
	return nil
}

func (p *probe) Start(ctx context.Context, s *plugin.Session) error {
	switch p.cfg.FailAt {
	case "start":
		return errors.New("told to fail")
	case "exit":
		os.Exit(3)
	case "never":
		<-ctx.Done()
		return ctx.Err()
	case "panic":
		panic("told to panic")
	}
	p.s = s
	s.Log.Info("started", "epoch", s.Epoch)
	if h, ok := s.Handles["listen"]; ok {
		l, err := net.FileListener(h.File)
		h.File.Close()
		if err != nil {
			return err
		}
		p.l = l
		p.wg.Go(func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				fmt.Fprintln(c, os.Getpid())
				c.Close()
			}
		})
	}
	s.Report(&pluginpb.Event{Message: p.cfg.Note, Gauges: []*pluginpb.Gauge{{Name: "epoch", Value: float64(s.Epoch)}}})
	return nil
}

func (p *probe) Drain(_ context.Context, progress func(uint64)) error {
	progress(1)
	p.s.Log.Info("drained")
	progress(0)
	return nil
}

func (p *probe) Stop(context.Context) error {
	time.Sleep(time.Duration(p.cfg.SlowStop) * time.Millisecond)
	if p.l != nil {
		p.l.Close()
	}
	p.wg.Wait()
	p.s.Log.Info("stopped in order")
	return nil
}

func (p *probe) Invoke(ctx context.Context, method string, req []byte) ([]byte, error) {
	switch method {
	case "pid":
		return json.Marshal(os.Getpid())
	case "hang":
		return nil, syscall.Kill(os.Getpid(), syscall.SIGSTOP)
	case "fail":
		p.s.Report(&pluginpb.Event{Health: pluginpb.Event_FAILED, Message: "gave up"})
		return nil, nil
	case "degrade":
		p.s.Report(&pluginpb.Event{Health: pluginpb.Event_DEGRADED, Message: "link down"})
		return nil, nil
	case "trigger":
		_, err := daemon.SdNotify(false, "WATCHDOG=trigger")
		return nil, err
	case "log":
		fmt.Fprintln(os.NewFile(uintptr(dup(2)), "stderr"), string(req))
		return nil, nil
	case "memory":
		return p.memory(req)
	case "disk":
		f := p.s.Handles["disk"].File
		if len(req) > 0 {
			_, err := f.WriteAt(req, 0)
			return nil, err
		}
		b := make([]byte, 5)
		_, err := f.ReadAt(b, 0)
		return b, err
	case "file": // in the state directory, then outside of it
		dir := fmt.Sprintf("/proc/self/fd/%d", p.s.Handles["state"].File.Fd())
		if err := os.WriteFile(dir+"/mine", req, 0o600); err != nil {
			return nil, err
		}
		return nil, os.WriteFile(string(req), nil, 0o600)
	case "put":
		return nil, p.s.Host.Put(ctx, "key", req)
	case "get":
		return p.s.Host.Get(ctx, "key")
	case "claim":
		h, err := p.s.Host.Claim(ctx, &pluginpb.Want{Name: "extra", Kind: pluginpb.Kind_LISTENER, Selector: string(req)})
		if err != nil {
			return nil, err
		}
		return json.Marshal(h.ID)
	case "claim disk":
		h, err := p.s.Host.Claim(ctx, p.cfg.disk())
		if err == nil {
			p.s.Handles["disk"] = h
		}
		return nil, err
	case "call": // request: "plugin/method"
		name, method, _ := strings.Cut(string(req), "/")
		reply, err := p.s.Host.Call(ctx, name, method, []byte(p.name+"/wait"))
		if errors.Is(err, plugin.ErrUnavailable) {
			return []byte("away"), nil
		}
		return reply, err
	case "claim method":
		_, err := p.s.Host.Claim(ctx, &pluginpb.Want{Name: "more", Kind: pluginpb.Kind_METHOD, Selector: string(req)})
		return nil, err
	case "mount":
		return nil, unix.Mount("none", "/tmp", "tmpfs", 0, "")
	case "status":
		return os.ReadFile("/proc/self/status")
	case "links":
		ifs, err := net.Interfaces()
		if err != nil {
			return nil, err
		}
		var names []string
		for _, i := range ifs {
			names = append(names, i.Name)
		}
		return json.Marshal(names)
	case "wait":
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return nil, fmt.Errorf("no method %s", method)
}

func (p *probe) memory(req []byte) ([]byte, error) {
	h := p.s.Handles["memory"]
	m, err := unix.Mmap(int(h.File.Fd()), 0, int(h.Size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, err
	}
	defer func() { _ = unix.Munmap(m) }()
	out := fmt.Sprintf("fresh=%v %s", h.Fresh, strings.TrimRight(string(m[:16]), "\x00"))
	copy(m, req)
	return []byte(out), nil
}

func dup(fd int) int {
	n, err := unix.Dup(fd)
	if err != nil {
		panic(err)
	}
	return n
}

var (
	_ plugin.Feature = (*probe)(nil)
	_ plugin.Invoker = (*probe)(nil)
	_ plugin.Drainer = (*probe)(nil)
)
