package gateway

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"

	"github.com/ratchetos/ratchet/core/plugin"
	"github.com/ratchetos/ratchet/plugins/gateway/api"
	"github.com/ratchetos/ratchet/plugins/gateway/attach"
)

const (
	// tokensKey is where core keeps the tokens of all volumes for us. What is kept of a token does not open anything.
	tokensKey = "tokens"
	// writersKey is where it keeps what their writers are called.
	writersKey = "writers"
	// asTarget is the identity of this box's own targets, which need no token: who reaches their socket is core's.
	asTarget = "target"
)

// keeperOf takes up the tokens that were made before.
func keeperOf(ctx context.Context, host plugin.Host, log *slog.Logger) (*attach.Keeper, error) {
	var registry attach.Registry
	if host == nil {
		return attach.NewKeeper(registry, nil), nil
	}
	kept, err := host.Get(ctx, tokensKey)
	if err == nil && kept != nil {
		err = json.Unmarshal(kept, &registry)
	}
	if err != nil {
		return nil, err // to go on without would open every volume to everyone
	}
	keeper := attach.NewKeeper(registry, func(r attach.Registry) error { return put(host, tokensKey, r) })
	var names map[string]string
	if kept, err = host.Get(ctx, writersKey); err == nil && kept != nil {
		err = json.Unmarshal(kept, &names)
	}
	if err != nil {
		log.Warn("what the writers of volumes are called is not known", "error", err)
	}
	keeper.Remember(names, func(names map[string]string) {
		if err := put(host, writersKey, names); err != nil {
			log.Warn("what the writers of volumes are called is not kept", "error", err)
		}
	})
	return keeper, nil
}

func put(host plugin.Host, key string, value any) error {
	text, err := json.Marshal(value)
	if err != nil {
		return err
	}
	return host.Put(context.Background(), key, text)
}

func (f *Feature) handover(ctx context.Context, request []byte) (any, error) {
	var q api.HandoverRequest
	if err := decode(request, &q); err != nil {
		return nil, err
	}
	if _, err := f.find(q.Name); err != nil {
		return nil, err
	}
	epoch, err := f.keeper.Handover(ctx, q.Name, q.From, q.To, asTarget)
	if err != nil {
		return nil, fmt.Errorf("hand volume %s over: %w", q.Name, err)
	}
	return api.HandoverReply{Epoch: epoch, Writer: q.To}, nil
}

func (f *Feature) writers(_ context.Context, request []byte) (any, error) {
	r, err := f.named(request)
	if err != nil {
		return nil, err
	}
	g, err := f.keeper.Gate(r.name)
	if err != nil {
		return nil, err
	}
	reply := api.WritersReply{Connections: g.Connections(), Writer: f.keeper.Writer(r.name, asTarget)}
	for _, t := range g.Terms() {
		reply.Terms = append(reply.Terms, api.Term{Epoch: t.Epoch, Writes: t.Writes, Refused: t.Refused})
	}
	return reply, nil
}

func (f *Feature) makeToken(_ context.Context, request []byte) (any, error) {
	var q api.TokenRequest
	if err := decode(request, &q); err != nil {
		return nil, err
	}
	if _, err := f.find(q.Name); err != nil {
		return nil, err
	}
	rights := attach.ReadWrite
	if q.ReadOnly {
		rights = attach.ReadOnly
	}
	secret, err := f.keeper.Make(q.Name, q.Identity, rights)
	if err != nil {
		return nil, err
	}
	return api.MadeToken{Secret: secret, Export: attach.ExportName(q.Name, secret)}, nil
}

func (f *Feature) revokeToken(_ context.Context, request []byte) (any, error) {
	var q api.TokenRequest
	if err := decode(request, &q); err != nil {
		return nil, err
	}
	return struct{}{}, f.keeper.Revoke(q.Name, q.Identity)
}

func (f *Feature) listTokens(_ context.Context, request []byte) (any, error) {
	r, err := f.named(request)
	if err != nil {
		return nil, err
	}
	reply := api.TokensReply{Tokens: []api.Token{}, Closed: f.keeper.Closed(r.name), Writer: f.keeper.Writer(r.name, asTarget)}
	for _, k := range f.keeper.List(r.name) {
		reply.Tokens = append(reply.Tokens, api.Token{Identity: k.Identity, ReadOnly: k.Rights == attach.ReadOnly, Made: k.Made})
	}
	return reply, nil
}

func (f *Feature) openToAll(ctx context.Context, request []byte) (any, error) {
	r, err := f.named(request)
	if err != nil {
		return nil, err
	}
	return struct{}{}, f.keeper.Open(ctx, r.name)
}
