package migration

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/ratchetos/ratchet/core/plugin/pluginpb"
	"github.com/ratchetos/ratchet/plugins/migration/api"
)

// command is a method with what answers it.
type command struct {
	method *pluginpb.Method
	run    func(f *Feature, ctx context.Context, request []byte) (any, error)
}

// errFollowsOnly is the answer of a plugin whose configuration has nothing to move.
var errFollowsOnly = errors.New("the configuration only follows VMs: give plugins.migration.hosts with vmhost or libvirt")

// handle decodes a request for fn.
func handle[Req any](fn func(f *Feature, ctx context.Context, req Req) (any, error)) func(*Feature, context.Context, []byte) (any, error) {
	return func(f *Feature, ctx context.Context, request []byte) (any, error) {
		var req Req
		if len(request) > 0 {
			if err := json.Unmarshal(request, &req); err != nil {
				return nil, fmt.Errorf("decode request: %w", err)
			}
		}
		return fn(f, ctx, req)
	}
}

// moving is handle for what needs a mover.
func moving[Req any](fn func(m *mover, ctx context.Context, req Req) (any, error)) func(*Feature, context.Context, []byte) (any, error) {
	return handle(func(f *Feature, ctx context.Context, req Req) (any, error) {
		f.mu.Lock()
		m := f.moves
		f.mu.Unlock()
		if m == nil {
			return nil, errFollowsOnly
		}
		return fn(m, ctx, req)
	})
}

type none struct{}

// commands are all methods. The list is made when it is asked for: nothing of it is kept on a box without hosts.
func commands() []command {
	reads := func(name, summary string) *pluginpb.Method {
		return &pluginpb.Method{Name: name, Summary: summary, ReadOnly: true}
	}
	changes := func(name, summary string) *pluginpb.Method { return &pluginpb.Method{Name: name, Summary: summary} }
	return []command{
		{reads(api.MethodHosts, "hosts with their state"), handle((*Feature).listHosts)},
		{reads(api.MethodVMs, "VMs with state, vCPUs and memory"), handle((*Feature).listVMs)},
		{reads(api.MethodVM, "one VM with its devices and last events"), handle((*Feature).showVM)},
		{reads(api.MethodTypes, "types of VMs"), handle((*Feature).listTypes)},
		{changes(api.MethodEnroll, "give a host its credentials"), moving((*mover).enroll)},
		{changes(api.MethodRevoke, "make a host's credentials void"), moving((*mover).revoke)},
		{reads(api.MethodPlan, "what a move would do, and what cannot be done"), moving((*mover).plan)},
		{changes(api.MethodApply, "begin moves"), moving((*mover).apply)},
		{reads(api.MethodMoves, "moves that wait or are under way"), moving((*mover).list)},
		{changes(api.MethodCancel, "end a move that is not committed"), moving((*mover).cancel)},
		{changes(api.MethodRetry, "let a held move go on"), moving((*mover).retry)},
		{changes(api.MethodAccept, "end a held move whose VM runs at the target"), moving((*mover).accept)},
		{reads(api.MethodHistory, "moves that have ended"), moving((*mover).history)},
		{reads(api.MethodTemplates, "templates with what they select"), moving((*mover).listTemplates)},
		{reads(api.MethodTemplate, "one template"), moving((*mover).showTemplate)},
		{changes(api.MethodTemplateStore, "keep a template"), moving((*mover).storeTemplate)},
		{changes(api.MethodTemplateDelete, "forget a template"), moving((*mover).deleteTemplate)},
		{changes(api.MethodTemplateMake, "make a template of what agents report"), moving((*mover).makeTemplate)},
		{reads(api.MethodSchedule, "forecasts and booked slots"), moving((*mover).showSchedule)},
		{changes(api.MethodImport, "replace the history of a link"), moving((*mover).importHistory)},
	}
}

func (f *Feature) listHosts(context.Context, none) (any, error) { return hostsReply(f.known()), nil }

func (f *Feature) listVMs(context.Context, none) (any, error) { return vmsReply(f.known()), nil }

func (f *Feature) showVM(_ context.Context, req api.VMRequest) (any, error) {
	return vmReply(f.known(), req)
}

func (f *Feature) listTypes(context.Context, none) (any, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return api.TypesReply{Types: f.config.Types}, nil
}
