package migration

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/ratchetos/ratchet/core/plugin"
)

const (
	gatewayPlugin  = "gateway"
	methodHandover = "volumes.handover"
	methodVolumes  = "volumes.list"
	// The rights to call them, which `gateway: true` asks core for.
	wantHandover = "handover"
	wantVolumes  = "volumes"
	// Pauses between attempts while the gateway is being restarted: short, because a guest stands still meanwhile.
	firstAttempt, lastAttempt = 5 * time.Millisecond, 200 * time.Millisecond
)

// errNoGateway says that the box was not told to hand volumes over.
var errNoGateway = errors.New("the VM has a volume of a gateway: set plugins.migration.gateway to true on the box that has it")

// caller is the part of plugin.Host that reaches another plugin.
type caller interface {
	Call(ctx context.Context, plugin, method string, request []byte) ([]byte, error)
}

// volumes hands volumes over by the box's own gateway (invariant S15). The gateway's requests are its own; what stands
// here is as much of them as is needed, since plugins share no types.
type volumes struct {
	core    caller
	granted bool
}

// Handover takes the right to write to a volume from one host and gives it to another. It may be repeated: one that has
// happened changes nothing, so an answer that was lost is asked for again.
func (v volumes) Handover(ctx context.Context, volume, from, to string) (epoch uint64, err error) {
	if !v.granted {
		return 0, errNoGateway
	}
	request, err := json.Marshal(struct {
		Name string `json:"name"`
		From string `json:"from"`
		To   string `json:"to"`
	}{volume, from, to})
	if err != nil {
		return 0, fmt.Errorf("hand %s over to %s: %w", volume, to, err)
	}
	for pause := firstAttempt; ; pause = min(2*pause, lastAttempt) {
		reply, err := v.core.Call(ctx, gatewayPlugin, methodHandover, request)
		if err == nil {
			return handedOver(reply, volume, to)
		}
		if !errors.Is(err, plugin.ErrUnavailable) {
			return 0, fmt.Errorf("hand %s over to %s: %w", volume, to, err)
		}
		t := time.NewTimer(pause)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return 0, fmt.Errorf("hand %s over to %s: %w", volume, to, errors.Join(err, ctx.Err()))
		}
	}
}

// sizes are those of the gateway's volumes by name, nil where it is not to be asked.
func (v volumes) sizes(ctx context.Context) (map[string]uint64, error) {
	if !v.granted {
		return nil, nil
	}
	reply, err := v.core.Call(ctx, gatewayPlugin, methodVolumes, []byte("{}"))
	if err != nil {
		return nil, fmt.Errorf("ask the gateway for its volumes: %w", err)
	}
	var r struct {
		Volumes []struct {
			Name string `json:"name"`
			Size uint64 `json:"size"`
		} `json:"volumes"`
	}
	if err := json.Unmarshal(reply, &r); err != nil {
		return nil, fmt.Errorf("read the gateway's list of volumes: %w", err)
	}
	sizes := make(map[string]uint64, len(r.Volumes))
	for _, x := range r.Volumes {
		sizes[x.Name] = x.Size
	}
	return sizes, nil
}

// handedOver reads the gateway's answer. One that names another writer is no success, whatever it was meant to say.
func handedOver(reply []byte, volume, to string) (epoch uint64, err error) {
	var r struct {
		Epoch  uint64 `json:"epoch"`
		Writer string `json:"writer"`
	}
	if err := json.Unmarshal(reply, &r); err != nil {
		return 0, fmt.Errorf("hand %s over to %s: read the gateway's answer: %w", volume, to, err)
	}
	if r.Writer != to || r.Epoch == 0 {
		return 0, fmt.Errorf("hand %s over to %s: the gateway says that %q writes, under epoch %d", volume, to, r.Writer, r.Epoch)
	}
	return r.Epoch, nil
}
