package trial

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/ratchetos/ratchet/core/host"
	"github.com/ratchetos/ratchet/core/plugin"
	"github.com/ratchetos/ratchet/plugins/gateway"
	"github.com/ratchetos/ratchet/plugins/gateway/api"
)

// Volume is what the gateway serves.
const Volume = "shared"

// VolumeSize is in bytes.
const VolumeSize = 16 << 20

// Gateway is a real one, in this process: the disk of moved guests. It knows each host by a token.
type Gateway struct {
	// Server is what NBD clients connect to, as "tcp:HOST:PORT".
	Server string
	// Secrets are the hosts' tokens.
	Secrets map[string]string

	feature *gateway.Feature
}

// StartGateway serves a new volume to the named hosts.
func StartGateway(ctx context.Context, dir string, hosts ...string) (*Gateway, error) {
	disk := filepath.Join(dir, "disk")
	// Written, not just sized: the log wants blocks that are allocated.
	if err := os.WriteFile(disk, make([]byte, 3*VolumeSize), 0o600); err != nil {
		return nil, err
	}
	address, err := freePort()
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(map[string]any{
		"nbd": map[string]any{"listen": []string{"tcp:" + address}},
		"volumes": []any{map[string]any{
			"name": Volume, "size": VolumeSize, "disk": "file:" + disk, "ring": 8 << 20,
			"store": map[string]any{"driver": "dir", "path": filepath.Join(dir, "store")},
		}},
	})
	if err != nil {
		return nil, err
	}
	g := &Gateway{Server: "tcp:" + address, Secrets: map[string]string{}, feature: gateway.New()}
	if err := g.start(ctx, dir, plugin.Section{JSON: text}); err != nil {
		return nil, fmt.Errorf("start gateway: %w", err)
	}
	for _, name := range hosts {
		var made api.MadeToken
		if err := g.invoke(ctx, api.MethodMake, api.TokenRequest{Name: Volume, Identity: name}, &made); err != nil {
			g.Close()
			return nil, err
		}
		g.Secrets[name] = made.Secret
	}
	if err := g.served(ctx); err != nil {
		g.Close()
		return nil, err
	}
	return g, nil
}

// served waits until the volume is.
func (g *Gateway) served(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, soon)
	defer cancel()
	again := time.NewTicker(5 * time.Millisecond)
	defer again.Stop()
	for {
		err := g.OneWriter(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return fmt.Errorf("wait for the volume: %w", err)
		}
	}
}

// start hands the gateway what core would.
func (g *Gateway) start(ctx context.Context, dir string, section plugin.Section) error {
	v := g.feature.Validate(ctx, section)
	if err := v.Err(); err != nil {
		return err
	}
	if err := g.feature.Configure(ctx, section); err != nil {
		return err
	}
	handles := map[string]plugin.Handle{}
	for _, want := range v.Wants {
		o, err := host.Local{Dir: dir}.Open(ctx, host.Request{Plugin: "gateway", Want: want})
		if err != nil {
			return fmt.Errorf("open %s: %w", want.GetName(), err)
		}
		handles[want.GetName()] = plugin.Handle{
			Name: want.GetName(), Kind: want.GetKind(), ID: o.Handle.GetId(), Size: o.Handle.GetSize(), Fresh: o.Handle.GetFresh(), File: o.File,
		}
	}
	return g.feature.Start(ctx, &plugin.Session{Handles: handles, Host: newState(), Report: func(plugin.Event) {}, Log: slog.New(slog.DiscardHandler)})
}

func (g *Gateway) invoke(ctx context.Context, method string, request, reply any) error {
	return invoke(ctx, g.feature, method, request, reply)
}

// Handover implements run.Volumes.
func (g *Gateway) Handover(ctx context.Context, volume, from, to string) (uint64, error) {
	var r api.HandoverReply
	err := g.invoke(ctx, api.MethodHandover, api.HandoverRequest{Name: volume, From: from, To: to}, &r)
	return r.Epoch, err
}

// OneWriter is the gateway's part of the proof (invariant M2): in each epoch after the first handover one host has
// written.
func (g *Gateway) OneWriter(ctx context.Context) error {
	var r api.WritersReply
	if err := g.invoke(ctx, api.MethodWriters, api.VolumeRequest{Name: Volume}, &r); err != nil {
		return err
	}
	for _, t := range r.Terms {
		if t.Epoch > 0 && len(t.Writes) > 1 {
			return fmt.Errorf("in epoch %d these have written: %v", t.Epoch, t.Writes)
		}
	}
	return nil
}

// Close ends it.
func (g *Gateway) Close() error { return g.feature.Stop(context.Background()) }

// freePort is one that nobody listens on now.
func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}
