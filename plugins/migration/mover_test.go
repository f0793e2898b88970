package migration

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ratchetos/ratchet/core/plugin"
	"github.com/ratchetos/ratchet/plugins/migration/api"
	"github.com/ratchetos/ratchet/plugins/migration/hypervisor"
	"github.com/ratchetos/ratchet/plugins/migration/hypervisor/hypervisortest"
	"github.com/ratchetos/ratchet/plugins/migration/model"
)

// box is core as the plugin sees it: a state store, and a gateway whose volumes are those of the world.
type box struct {
	world *hypervisortest.World
	dir   string

	mu     sync.Mutex
	values map[string][]byte
	away   bool  // the gateway is being restarted
	broken error // of what is put
}

var _ plugin.Host = (*box)(nil)

func (b *box) Claim(context.Context, plugin.Want) (plugin.Handle, error) {
	return plugin.Handle{}, errors.New("nothing to claim here")
}
func (b *box) Release(context.Context, string) error { return nil }

func (b *box) Get(_ context.Context, key string) ([]byte, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.values[key], nil
}

func (b *box) Put(_ context.Context, key string, value []byte) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.broken == nil {
		b.values[key] = slices.Clone(value)
	}
	return b.broken
}

// fail lets nothing be put until it is called with nil.
func (b *box) fail(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.broken = err
}

func (b *box) Delete(_ context.Context, key string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.values, key)
	return nil
}

func (b *box) List(_ context.Context, prefix string) (keys []string, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, k := range slices.Sorted(maps.Keys(b.values)) {
		if strings.HasPrefix(k, prefix) {
			keys = append(keys, k)
		}
	}
	return keys, nil
}

func (b *box) Call(ctx context.Context, name, method string, request []byte) ([]byte, error) {
	b.mu.Lock()
	away := b.away
	b.mu.Unlock()
	switch {
	case away:
		return nil, plugin.ErrUnavailable
	case name+"/"+method == "gateway/volumes.list":
		return []byte(`{"volumes": [{"name": "vol-web1", "size": 1073741824}, {"name": "vol-web2", "size": 1073741824}, {"name": "vol-web3", "size": 1073741824}]}`), nil
	}
	var req struct{ Name, From, To string }
	if err := json.Unmarshal(request, &req); err != nil {
		return nil, err
	}
	epoch, err := b.world.Handover(ctx, req.Name, req.From, req.To)
	if err != nil {
		return nil, err
	}
	return fmt.Appendf(nil, `{"epoch": %d, "writer": %q}`, epoch, req.To), nil
}

// shapeOf is a VM with a card and a volume.
func shapeOf(vm string) model.Shape {
	return model.Shape{
		Version: model.ShapeVersion, VM: vm, Machine: "pc-i440fx-7.2", Accel: "tcg", CPU: model.CPU{Model: "qemu64", Features: []string{"sse2"}},
		VCPUs: 1, MaxVCPUs: 4, Memory: model.Memory{Boot: 262136 << 10},
		NICs:  []model.NIC{{ID: "n0", Model: "virtio-net-pci", MAC: "52:54:00:00:00:01", Network: "lan", Addr: "0x3"}},
		Disks: []model.Disk{{ID: "d0", Model: "virtio-blk-pci", Size: 1 << 30, Addr: "0x4", Source: model.Source{Volume: &model.Volume{Name: "vol-" + vm, Server: "tcp:192.0.2.1:10809"}}}},
	}
}

// house is a world of two hosts with three VMs on rack1, and one process of the plugin after the other.
type house struct {
	*started
	world *hypervisortest.World
	box   *box
	// away is how many connections fail before hosts are reached.
	away atomic.Int32
	// seen is how many VMs a process finds.
	seen int
}

func newHouse(t *testing.T) *house {
	t.Helper()
	w := hypervisortest.NewWorld("rack1", "rack2")
	w.Dial = dialGuest
	for _, name := range []string{"rack1", "rack2"} {
		w.SetHost(model.Host{
			Name: name, Hypervisor: "memory", Accels: []string{"tcg"}, Machines: []string{"pc-i440fx-7.2"},
			CPUs: []model.CPU{{Model: "qemu64", Features: []string{"sse2"}}}, Devices: []string{"virtio-net-pci", "virtio-blk-pci"},
			Networks: []string{"lan"}, FreeVCPUs: 16, MaxVCPUs: 16, FreeMemory: 8 << 30, TLS: true,
		})
	}
	for _, vm := range []string{"web1", "web2", "web3"} {
		w.Start("rack1", shapeOf(vm))
	}
	return &house{world: w, box: &box{world: w, dir: t.TempDir(), values: map[string][]byte{}}, seen: 3}
}

const twoHosts = `{"gateway": true, "hosts": [{"name": "rack1", "vmhost": "192.0.2.1:7000"}, {"name": "rack2", "vmhost": "192.0.2.2:7000"}]%s}`

// open starts a process of the plugin. more is what else the section says.
func (h *house) open(t *testing.T, more string) {
	t.Helper()
	f := New().(*Feature)
	f.dial = func(_ *mover, conf HostConfig) hypervisor.Dial {
		return func(context.Context) (hypervisor.Host, error) {
			if h.away.Add(-1) >= 0 {
				return nil, errors.New("no route to host")
			}
			return h.world.Port(conf.Name)
		}
	}
	h.started = startFeature(t, f, fmt.Sprintf(twoHosts, more), &plugin.Session{
		Epoch: 1, Host: h.box, Handles: map[string]plugin.Handle{wantState: {ID: h.box.dir}},
	})
	h.until("both hosts up, all VMs seen", func(e plugin.Event) bool {
		return cell(e, "hosts", "rack1", "STATE") == "up" && cell(e, "hosts", "rack2", "STATE") == "up" && len(h.vms()) == h.seen
	})
}

func (h *house) vms() []api.VM { return invoke[api.VMsReply](h.started, api.MethodVMs, nil).VMs }

// ended waits until a move has ended and returns it.
func (h *house) ended(t *testing.T, id string) api.Move {
	t.Helper()
	var m api.Move
	is := func(plugin.Event) bool {
		m = invoke[api.MovesReply](h.started, api.MethodMoves, api.MovesRequest{ID: id}).Moves[0]
		return !m.Ended.IsZero()
	}
	if !is(nil) { // the event may have come already
		h.until(id+" ended", is)
	}
	return m
}

func (h *house) apply(req api.MoveRequest) api.ApplyReply {
	return invoke[api.ApplyReply](h.started, api.MethodApply, req)
}

func (h *house) runsOn(t *testing.T, vm, host string) {
	t.Helper()
	if got := h.world.Runner(vm); got != host {
		t.Errorf("%s runs on %q, want %s", vm, got, host)
	}
	if got := h.world.Owner("vol-" + vm); got != host {
		t.Errorf("the volume of %s belongs to %q, want %s", vm, got, host)
	}
	for _, wrong := range h.world.Violations() {
		t.Error(wrong)
	}
}

func TestMoveThereAndBack(t *testing.T) {
	h := newHouse(t)
	h.open(t, "")
	p := invoke[api.PlanReply](h.started, api.MethodPlan, api.MoveRequest{VM: "web1", To: "rack2"})
	if len(p.Plans) != 1 || p.Plans[0].Plan == nil || p.Plans[0].Text == "" {
		t.Fatalf("plan %+v", p)
	}
	h.runsOn(t, "web1", "rack1") // a plan changes nothing
	for _, to := range []string{"rack2", "rack1"} {
		reply := h.apply(api.MoveRequest{VM: "web1", To: to})
		if len(reply.Moves) != 1 || len(reply.Refused) > 0 {
			t.Fatalf("apply: %+v", reply)
		}
		if m := h.ended(t, reply.Moves[0].ID); m.State != "moved" || m.Problem != "" {
			t.Errorf("ended as %+v", m)
		}
		h.runsOn(t, "web1", to)
		h.until("web1 seen there", func(e plugin.Event) bool { return cell(e, "vms", "web1", "HOST") == to })
	}
	moves := invoke[api.MovesReply](h.started, api.MethodHistory, api.MovesRequest{Last: 1}).Moves
	if len(moves) != 1 || moves[0].To != "rack1" {
		t.Errorf("history %+v", moves)
	}
}

func TestWhatCannotBeMoved(t *testing.T) {
	h := newHouse(t)
	h.open(t, `, "types": [{"name": "old", "nic": "e1000"}]`)
	reply := h.apply(api.MoveRequest{VM: "web1", To: "rack2", Type: "old"})
	if len(reply.Moves) != 0 || len(reply.Refused) != 1 || len(reply.Refused[0].Refusals) == 0 {
		t.Errorf("a card that the host does not have: %+v", reply)
	}
	for want, req := range map[string]api.MoveRequest{
		"no VM":        {VM: "db1", To: "rack2"},
		"no host":      {VM: "web1", To: "rack9"},
		"already":      {VM: "web1", To: "rack1"},
		"no type":      {VM: "web1", To: "rack2", Type: "huge"},
		"no template":  {Template: "all"},
		"nothing else": {},
	} {
		body, _ := json.Marshal(req)
		if _, err := h.Invoke(t.Context(), api.MethodApply, body); err == nil || want != "nothing else" && !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %q", req, err, want)
		}
	}
	if moves := invoke[api.MovesReply](h.started, api.MethodMoves, nil).Moves; len(moves) > 0 {
		t.Errorf("moves %+v", moves)
	}
	h.runsOn(t, "web1", "rack1")
}

// A move whose volume cannot be handed over is undone; while the gateway is only restarted it waits.
func TestGatewayIsAway(t *testing.T) {
	h := newHouse(t)
	h.open(t, "")
	id := h.apply(api.MoveRequest{VM: "web1", To: "rack2"}).Moves[0].ID
	h.ended(t, id)
	h.box.mu.Lock()
	h.box.away = true
	h.box.mu.Unlock()
	// It can be neither planned nor begun: what the gateway says of the volume's size is part of the check.
	body, _ := json.Marshal(api.MoveRequest{VM: "web2", To: "rack2"})
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if _, err := h.Invoke(ctx, api.MethodApply, body); !errors.Is(err, plugin.ErrUnavailable) {
		t.Errorf("apply without the gateway: %v", err)
	}
	h.runsOn(t, "web2", "rack1")
}

// stallPrepare stalls every Prepare until the channel is closed.
func (h *house) stallPrepare() chan struct{} {
	over := make(chan struct{})
	h.world.Inject(func(c hypervisortest.Call) hypervisortest.Fault {
		select {
		case <-over:
			return hypervisortest.None
		default:
		}
		if c.Name == "Prepare" {
			return hypervisortest.Stall
		}
		return hypervisortest.None
	})
	return over
}

// TestOrdersOutliveTheProcess: what waited when the process ended begins in the next one, once.
func TestOrdersOutliveTheProcess(t *testing.T) {
	h := newHouse(t)
	stall := h.stallPrepare()
	h.open(t, `, "at_once": 1`)
	first := h.apply(api.MoveRequest{VM: "web1", To: "rack2"}).Moves[0].ID
	h.until("the first is under way", func(e plugin.Event) bool { return cell(e, "moves", first, "STATE") == "prepared" })
	second := h.apply(api.MoveRequest{VM: "web2", To: "rack2"}).Moves[0].ID
	h.until("the second waits", func(e plugin.Event) bool { return cell(e, "moves", second, "STATE") == stateWaiting })
	third := h.apply(api.MoveRequest{VM: "web3", To: "rack2"}).Moves[0].ID
	invoke[none](h.started, api.MethodCancel, api.IDRequest{ID: third})
	if err := h.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	close(stall)
	h.away.Store(2) // the order's turn comes before its hosts are there
	h.open(t, `, "at_once": 1`)
	// What was before its commit is undone by a new process; the order that waited is carried out.
	if m := h.ended(t, first); m.State != "undone" {
		t.Errorf("the first is %s: %s", m.State, m.Problem)
	}
	if m := h.ended(t, second); m.State != "moved" {
		t.Errorf("the second is %s: %s", m.State, m.Problem)
	}
	h.runsOn(t, "web1", "rack1")
	h.runsOn(t, "web2", "rack2")
	h.runsOn(t, "web3", "rack1")
}

// TestVMIsGoneWhenItsTurnComes: its host says so, which is the end of the order, and the next one of the wave begins.
func TestVMIsGoneWhenItsTurnComes(t *testing.T) {
	h := newHouse(t)
	stall := h.stallPrepare()
	h.open(t, `, "at_once": 1`)
	first := h.apply(api.MoveRequest{VM: "web1", To: "rack2"}).Moves[0].ID
	h.until("the first is under way", func(e plugin.Event) bool { return cell(e, "moves", first, "STATE") == "prepared" })
	gone := h.apply(api.MoveRequest{VM: "web2", To: "rack2"}).Moves[0].ID
	last := h.apply(api.MoveRequest{VM: "web3", To: "rack2"}).Moves[0].ID
	if err := h.Stop(t.Context()); err != nil { // plans are kept by a process: the next one asks again
		t.Fatal(err)
	}
	close(stall)
	h.world.Kill("rack1", "web2")
	h.away.Store(2) // who does not answer is asked again, who answers is believed
	h.seen = 2
	h.open(t, `, "at_once": 1`)
	if m := h.ended(t, gone); m.State != stateNotBegun || !strings.Contains(m.Problem, `rack1 has no VM "web2" any more`) {
		t.Errorf("it is %s: %s", m.State, m.Problem)
	}
	if m := h.ended(t, last); m.State != "moved" {
		t.Errorf("the last is %s: %s", m.State, m.Problem)
	}
	h.runsOn(t, "web3", "rack2")
}

func vcpus(n int) model.VMType { return model.VMType{VCPUs: n} }
