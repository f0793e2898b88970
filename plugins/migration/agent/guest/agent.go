package guest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/ratchetos/ratchet/plugins/migration/agent/wire"
)

const (
	// maxRunning bounds the requests under way.
	maxRunning = 8
	// defaultWait is for orders that name no limit.
	defaultWait = 10 * time.Second
)

// Options of an Agent; the zero value is the machine it runs on.
type Options struct {
	// Version is reported.
	Version string
	// Root is where sysfs, procfs and /lib/modules are found, "/" if empty.
	Root string
	// Load gives a module file to the kernel; nil is finit_module(2).
	Load func(path string) error
	// Network is the kernel's; nil is this machine's, by netlink.
	Network Network
	// Log gets one line an order; nil is silence.
	Log *slog.Logger
}

// Agent is the engine. It outlives connections: the answers that it remembers survive a move with the guest's memory.
type Agent struct {
	version string
	sys     tree
	load    func(path string) error
	net     Network
	log     *slog.Logger

	// changing is held by the order that changes the guest.
	changing chan struct{}

	mu      sync.Mutex
	running map[string]bool
	done    map[string][]byte
	order   []string // of done, oldest first
}

// New makes an agent.
func New(o Options) *Agent {
	a := &Agent{
		version: o.Version, sys: newTree(o.Root), load: o.Load, net: o.Network, log: o.Log,
		changing: make(chan struct{}, 1), running: make(map[string]bool), done: make(map[string][]byte),
	}
	if a.load == nil {
		a.load = loadModule
	}
	if a.net == nil {
		a.net = kernelNetwork{}
	}
	if a.log == nil {
		a.log = slog.New(slog.DiscardHandler)
	}
	return a
}

// Handle carries a line out and gives answer its answer, newline included, now or later, from any goroutine. There is no
// answer to what has no ID, and none to a request that is under way: the first one's comes.
func (a *Agent) Handle(ctx context.Context, line []byte, answer func(line []byte)) {
	req, err := wire.ParseRequest(line)
	if err != nil {
		if req.ID != "" {
			answer(encode(req.ID, nil, &wire.Error{Code: wire.BadRequest, Text: err.Error()}))
		}
		return
	}
	v, known := verbs[req.Verb]
	if !known {
		answer(encode(req.ID, nil, &wire.Error{Code: wire.UnknownVerb, Text: fmt.Sprintf("agent %s does not know %q", a.version, req.Verb)}))
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	switch before := a.done[req.ID]; {
	case before != nil:
		go answer(before) // it may block, and we hold the lock
		return
	case a.running[req.ID]:
		return
	case len(a.running) >= maxRunning:
		go answer(encode(req.ID, nil, &wire.Error{Code: wire.Busy, Text: fmt.Sprintf("%d requests are under way", maxRunning)}))
		return
	}
	a.running[req.ID] = true
	go a.run(ctx, v, req, answer)
}

func (a *Agent) run(ctx context.Context, v verb, req wire.Request, answer func(line []byte)) {
	wait := defaultWait
	if req.Wait > 0 {
		wait = time.Duration(req.Wait) * time.Millisecond
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	start := time.Now()
	result, err := a.carryOut(ctx, v, req)
	line := encode(req.ID, result, err)

	a.mu.Lock()
	delete(a.running, req.ID)
	if v.once || v.changes && err == nil {
		a.done[req.ID] = line
		if a.order = append(a.order, req.ID); len(a.order) > wire.Remembered {
			delete(a.done, a.order[0])
			a.order = a.order[1:]
		}
	}
	a.mu.Unlock()
	if v.changes {
		a.log.Info("order", "verb", req.Verb, "id", req.ID, "args", string(req.Args), "took", time.Since(start), "err", err)
	}
	answer(line)
}

func (a *Agent) carryOut(ctx context.Context, v verb, req wire.Request) (any, error) {
	if v.changes {
		select {
		case a.changing <- struct{}{}:
			defer func() { <-a.changing }()
		case <-ctx.Done():
			return nil, &wire.Error{Code: wire.Busy, Text: "another order is being carried out"}
		}
	}
	return v.do(a, ctx, req.Args)
}

// encode makes an answer. An error that names no code is the kernel's refusal.
func encode(id string, result any, err error) []byte {
	r := wire.Response{Version: wire.Version, ID: id}
	if err == nil {
		r.Result, err = json.Marshal(result)
	}
	if err != nil {
		r.Error = &wire.Error{Code: wire.Refused, Text: err.Error()}
		var e *wire.Error
		if errors.As(err, &e) {
			r.Error.Code = e.Code
		}
	}
	line, err := wire.Line(r)
	if err != nil {
		// Only a result can be too long.
		r.Result, r.Error = nil, &wire.Error{Code: wire.Refused, Text: "answer: " + err.Error()}
		line, _ = wire.Line(r)
	}
	return line
}

// verb is how a request is carried out.
type verb struct {
	changes bool
	once    bool // even if it failed
	do      func(a *Agent, ctx context.Context, args json.RawMessage) (any, error)
}

var verbs = map[wire.Verb]verb{
	wire.Ping:          {do: with((*Agent).ping)},
	wire.Report:        {do: with((*Agent).report)},
	wire.Disks:         {do: with((*Agent).disks)},
	wire.Augment:       {changes: true, do: with((*Agent).augment)},
	wire.OnlineCPUs:    {changes: true, do: with((*Agent).onlineCPUs)},
	wire.OfflineCPUs:   {changes: true, do: with((*Agent).offlineCPUs)},
	wire.OnlineMemory:  {changes: true, do: with((*Agent).onlineMemory)},
	wire.OfflineMemory: {changes: true, do: with((*Agent).offlineMemory)},
	wire.SwapNIC:       {changes: true, do: with((*Agent).swapNIC)},
	wire.RunHook:       {changes: true, once: true, do: with((*Agent).hook)},
}

// nothing is the arguments of a verb that has none.
type nothing struct{}

// with decodes a verb's arguments.
func with[A, R any](do func(*Agent, context.Context, A) (R, error)) func(*Agent, context.Context, json.RawMessage) (any, error) {
	return func(a *Agent, ctx context.Context, raw json.RawMessage) (any, error) {
		var args A
		if len(raw) > 0 {
			if err := json.Unmarshal(raw, &args); err != nil {
				return nil, &wire.Error{Code: wire.BadRequest, Text: "arguments: " + err.Error()}
			}
		}
		return do(a, ctx, args)
	}
}

// poll calls reached until it says so or ctx ends: sysfs has no events for most of what is waited for here.
func poll(ctx context.Context, reached func() bool) bool {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		if reached() {
			return true
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return reached()
		}
	}
}
