// Package apitest is a small appliance in memory behind the real API server, for tests of
// the server and of its clients. It keeps what was asked of it, so that a test can look.
package apitest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/ratchetos/ratchet/core/api"
	"github.com/ratchetos/ratchet/core/api/apipb"
	"github.com/ratchetos/ratchet/core/pipeline"
	"github.com/ratchetos/ratchet/core/plugin/pluginpb"
)

// Backend is a box with two plugins, a NIC and two disks. The zero value is released.
type Backend struct {
	// Isolated makes a box whose verdict keeps its hardware out of use.
	Isolated bool

	mu      sync.Mutex
	calls   []string
	config  []byte
	applied uint64
	staged  uint64 // bytes of a firmware package
	bundle  uint64 // bytes of an update
	// pending and entering are what waits for the next boot.
	pending  string
	entering bool
	follow   []chan string
	first    chan struct{} // see followed
}

var _ api.Backend = (*Backend)(nil)

// Calls returns what changed the box, oldest first.
func (b *Backend) Calls() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]string(nil), b.calls...)
}

// Say waits until a log stream follows, no longer than ctx, and adds a line to all that do.
func (b *Backend) Say(ctx context.Context, line string) error {
	b.mu.Lock()
	followed := b.followed()
	b.mu.Unlock()
	select {
	case <-followed:
	case <-ctx.Done():
		return fmt.Errorf("say %q: nobody follows: %w", line, ctx.Err())
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, c := range b.follow {
		select {
		case c <- line:
		default:
		}
	}
	return nil
}

// followed is closed when the first stream follows. The caller holds mu.
func (b *Backend) followed() chan struct{} {
	if b.first == nil {
		b.first = make(chan struct{})
	}
	return b.first
}

func (b *Backend) note(format string, args ...any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.calls = append(b.calls, fmt.Sprintf(format, args...))
}

func (b *Backend) verdict() *apipb.Verdict {
	if b.Isolated {
		return &apipb.Verdict{
			Decision: "isolated", Code: "counter-moved",
			Reason: "the counter is 43, the ledger expects 42", Next: "ratchetctl counter show",
		}
	}
	return &apipb.Verdict{Decision: "released", Code: "clean", Reason: "counter and ledger agree"}
}

// Status is that of a box which has been up for two hours; its verdict follows Isolated.
func (b *Backend) Status(context.Context) (*apipb.StatusReply, error) {
	return &apipb.StatusReply{
		Hostname: "ap-7f3a", Version: "0.4.1", Flavour: "full", Slot: "A",
		UptimeMs: (2*time.Hour + 11*time.Minute).Milliseconds(), Verdict: b.verdict(),
		Counter: 42, Expected: 41, MemoryTotal: 512 << 20, MemoryAvailable: 448 << 20,
		Network: &apipb.NetworkStatus{Nic: "mac:52:54:00:72:61:01", State: "up", Addresses: []string{"10.0.2.15/24"}},
		Clock:   &apipb.ClockStatus{Source: "pool.ntp.org", Synchronised: true, OffsetUs: 120},
		Config:  &apipb.ConfigStatus{Digest: "9f86d081884c7d65", Generation: 7},
	}, nil
}

// Version is fixed, and another than that of the client under test.
func (b *Backend) Version(context.Context) (*apipb.VersionReply, error) {
	return &apipb.VersionReply{Version: "0.4.1", Commit: "abc123", Go: "go1.26", Kernel: "6.1.0"}, nil
}

// Power is noted and does nothing.
func (b *Backend) Power(_ context.Context, action apipb.PowerAction) error {
	b.note("power %s", action)
	return nil
}

// Plugins has one that is well and one that is not. Its gauges hold a name Prometheus refuses
// and one that two plugins share.
func (b *Backend) Plugins(context.Context) ([]*apipb.Plugin, error) {
	now := time.Now()
	return []*apipb.Plugin{{
		Name: "gateway", Summary: "cached volumes", State: "ready", Version: "0.4.1", Generation: 7, Pid: 71,
		SinceUnixMs: now.Add(-2 * time.Hour).UnixMilli(), Memory: 21 << 20, MemoryLimit: 256 << 20,
		Health: "ok", Message: "1 volume, 12 MiB to upload",
		Histograms: []*pluginpb.Histogram{{
			Name: "request_seconds", Help: "latency", Labels: map[string]string{"request": "read"}, Bounds: []float64{0.001, 0.1}, Counts: []uint64{3, 5}, Count: 6, Sum: 1.5,
		}},
		Gauges: []*pluginpb.Gauge{
			{Name: "dirty_bytes", Help: "bytes not uploaded yet", Value: 12 << 20, Labels: map[string]string{"volume": "demo"}},
			{Name: "requests_total", Help: "NBD requests", Value: 7, Counter: true},
			{Name: "not a name", Value: 1},
		},
		Tables: []*pluginpb.Table{{
			Name: "volumes", Columns: []string{"name", "size"},
			Rows: []*pluginpb.Row{{Cells: []string{"demo", "256MiB"}}},
		}},
		Jobs: []*pluginpb.Job{{Name: "upload", Done: 1 << 20, Total: 4 << 20, Unit: "bytes"}},
		Methods: []*pluginpb.Method{
			{Name: "volumes.list", Summary: "list volumes", ReadOnly: true},
			{Name: "volumes.flush", Summary: "wait for the upload"},
			{Name: pipeline.MethodShow, Summary: "show pipelines", ReadOnly: true},
		},
	}, {
		Name: "dataplane", Summary: "network links", State: "degraded", Version: "0.4.1", Generation: 7, Pid: 72, Restarts: 1,
		SinceUnixMs: now.Add(-14 * time.Second).UnixMilli(), Memory: 18 << 20, Health: "degraded", Message: "link eth2 is down",
		Gauges: []*pluginpb.Gauge{{Name: "requests_total", Help: "other words", Value: 3}},
		Tables: []*pluginpb.Table{{
			Name: "alerts", Columns: []string{"link", "what", "to do"},
			Rows: []*pluginpb.Row{{Cells: []string{"eth2", "is down", "plug it in"}}},
		}},
	}}, nil
}

func (b *Backend) has(plugin string) error {
	if plugin != "gateway" && plugin != "dataplane" {
		return fmt.Errorf("plugin %q: %w; see: ratchetctl plugin list", plugin, api.ErrNotFound)
	}
	return nil
}

// RestartPlugin is noted; it fails for an unknown plugin and on an isolated box.
func (b *Backend) RestartPlugin(_ context.Context, plugin string, kill bool) error {
	if err := b.has(plugin); err != nil {
		return err
	}
	if b.Isolated {
		return fmt.Errorf("restart plugin %s: %w", plugin, api.ErrNotReleased)
	}
	if kill {
		b.note("kill %s", plugin)
		return nil
	}
	b.note("restart %s", plugin)
	return nil
}

// PluginLogs has three lines from the past, and follows what Say says.
func (b *Backend) PluginLogs(ctx context.Context, plugin string, tail int, follow bool, emit func(*apipb.LogLine) error) error {
	if plugin == api.AuditTrail {
		return emit(&apipb.LogLine{UnixNs: 1e18, Text: `{"time":"2001-09-09T01:46:40Z","level":"INFO","msg":"audit","procedure":"/ratchet.api.v1.System/Power","caller":"anna"}`})
	}
	if err := b.has(plugin); err != nil {
		return err
	}
	at := time.Date(2027, 3, 1, 12, 0, 0, 0, time.UTC).UnixNano()
	lines := []string{"log opened", "listening on :10809", "upload finished"}
	if tail > 0 && tail < len(lines) {
		lines = lines[len(lines)-tail:]
	}
	for _, l := range lines {
		if err := emit(&apipb.LogLine{UnixNs: at, Text: l}); err != nil {
			return err
		}
	}
	if !follow {
		return nil
	}
	more := make(chan string, 16)
	b.mu.Lock()
	if len(b.follow) == 0 {
		close(b.followed())
	}
	b.follow = append(b.follow, more)
	b.mu.Unlock()
	for {
		select {
		case l := <-more:
			if err := emit(&apipb.LogLine{UnixNs: at, Text: l}); err != nil {
				return err
			}
		case <-ctx.Done():
			return nil
		}
	}
}

// Invoke is noted with its caller, and shows one pipeline or answers any other method with one volume.
func (b *Backend) Invoke(_ context.Context, plugin, method string, request []byte, caller string) ([]byte, error) {
	b.note("invoke %s/%s %s by %s", plugin, method, request, caller)
	if method == pipeline.MethodShow {
		return []byte(`{"workers":2,"busy":1,"held_bytes":3145728,"memory_bytes":67108864,"pipelines":[{"name":"upload demo","weight":1,"stages":[` +
			`{"name":"cut","waits":true,"limit":1,"running":1,"items":12,"bytes":12582912,"items_per_second":2,"busy_ns":120000000},` +
			`{"name":"pack","granted_workers":1.25,"queued":3,"queue":16,"items":9,"busy_ns":45000000,"waited_ns":18000000000}]}]}`), nil
	}
	return []byte(`{"volumes":[{"name":"demo"}]}`), nil
}

// ShowConfig is the document that was applied last.
func (b *Backend) ShowConfig(context.Context) (*apipb.ShowConfigReply, error) {
	yaml := b.document()
	return &apipb.ShowConfigReply{Name: "ledger", Yaml: yaml, Digest: digest(yaml)}, nil
}

func (b *Backend) document() []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.config == nil {
		return []byte("version: 1\nhostname: ap-7f3a\n")
	}
	return b.config
}

func digest(yaml []byte) string {
	sum := sha256.Sum256(yaml)
	return hex.EncodeToString(sum[:])
}

// CheckConfig finds one mistake: the word "cahce".
func (b *Backend) CheckConfig(_ context.Context, name string, yaml []byte) ([]*apipb.ConfigDiagnostic, error) {
	before, _, found := strings.Cut(string(yaml), "cahce")
	if !found {
		return nil, nil
	}
	line := uint32(strings.Count(before, "\n") + 1)
	column := uint32(len(before) - strings.LastIndexByte(before, '\n'))
	return []*apipb.ConfigDiagnostic{{
		File: name, Line: line, Column: column, Severity: "error", Path: "plugins.gateway.cahce",
		Message: `unknown field "cahce" (did you mean "cache"?)`,
		Text:    fmt.Sprintf("%s:%d:%d: unknown field \"cahce\" (did you mean \"cache\"?)\n", name, line, column),
	}}, nil
}

// ApplyConfig is noted, unless the document has the mistake that CheckConfig finds.
func (b *Backend) ApplyConfig(ctx context.Context, r *apipb.ApplyConfigRequest) (*apipb.ApplyConfigReply, error) {
	d, err := b.CheckConfig(ctx, r.GetName(), r.GetYaml())
	if err != nil || len(d) > 0 {
		return &apipb.ApplyConfigReply{Diagnostics: d}, err
	}
	if b.Isolated {
		return nil, fmt.Errorf("apply configuration: %w", api.ErrNotReleased)
	}
	if base := r.GetBase(); base != "" && base != digest(b.document()) {
		return nil, fmt.Errorf("%w: the configuration was changed meanwhile", api.ErrPrecondition)
	}
	b.note("apply %d bytes, confirm %d ms", len(r.GetYaml()), r.GetConfirmMs())
	b.mu.Lock()
	defer b.mu.Unlock()
	b.config, b.applied = r.GetYaml(), b.applied+1
	return &apipb.ApplyConfigReply{Applied: true, Changed: []string{"hostname", "plugins.gateway"}, Counter: 42 + b.applied}, nil
}

// ConfirmConfig is noted.
func (b *Backend) ConfirmConfig(context.Context) error {
	b.note("confirm")
	return nil
}

// Hardware has a device of every kind: in use, free, with foreign content, and unsupported.
func (b *Backend) Hardware(context.Context) ([]*apipb.Device, error) {
	return []*apipb.Device{
		{Id: "mac:52:54:00:72:61:01", Place: "pci:0000:00:03.0", Kind: "nic", Bus: "pci", Model: "virtio-net", Driver: "virtio_net", Node: "eth0", Supported: true, Owner: "management", Verdict: b.verdict()},
		{Id: "serial:ratchet-data", Place: "pci:0000:00:05.0", Kind: "disk", Bus: "virtio", Model: "virtio-blk", Driver: "virtio_blk", Node: "/dev/vdb", Size: 1 << 30, Supported: true, Owner: "gateway", Verdict: b.verdict()},
		{Id: "serial:old", Place: "pci:0000:00:06.0", Kind: "disk", Bus: "virtio", Model: "virtio-blk", Driver: "virtio_blk", Node: "/dev/vdc", Size: 2 << 30, Supported: true, Content: "ext4"},
		{Id: "pci:0000:00:07.0", Place: "pci:0000:00:07.0", Kind: "nic", Bus: "pci", Model: "unknown 1234:5678", Why: "not in the catalogue"},
	}, nil
}

// ClaimDevice admits the disk serial:old, and that only with erase.
func (b *Backend) ClaimDevice(_ context.Context, selector string, erase bool) (*apipb.Device, error) {
	if b.Isolated {
		return nil, fmt.Errorf("claim %s: %w", selector, api.ErrNotReleased)
	}
	if selector != "serial:old" {
		return nil, fmt.Errorf("device %q: %w; see: ratchetctl hw list", selector, api.ErrNotFound)
	}
	if !erase {
		return nil, fmt.Errorf("claim %s: %w: it holds ext4; to destroy that, add --erase", selector, api.ErrPrecondition)
	}
	b.note("claim %s erase %t", selector, erase)
	return &apipb.Device{Id: selector, Kind: "disk", Size: 2 << 30, Supported: true}, nil
}

// ReleaseDevice is noted.
func (b *Backend) ReleaseDevice(_ context.Context, selector string) error {
	b.note("release %s", selector)
	return nil
}

// Counter has one open attempt.
func (b *Backend) Counter(context.Context) (*apipb.ShowCounterReply, error) {
	return &apipb.ShowCounterReply{
		Counter: 42, Expected: 41, Open: 1, Tpm: true, Verdict: b.verdict(),
		Attempts: []*apipb.Attempt{{Number: 42, Kind: "configuration", Target: "slot 1", From: "aa11", To: "bb22", Result: "open"}},
	}, nil
}
