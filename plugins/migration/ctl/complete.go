package ctl

import (
	"context"

	"github.com/ratchetos/ratchet/plugins/internal/command"
	"github.com/ratchetos/ratchet/plugins/migration/api"
)

func hostNames(ctx context.Context, app command.App) (names []string, err error) {
	var reply api.HostsReply
	err = app.Invoke(ctx, plugin, api.MethodHosts, struct{}{}, &reply)
	for _, h := range reply.Hosts {
		names = append(names, h.Name+"\t"+h.State)
	}
	return names, err
}

func vmNames(ctx context.Context, app command.App) (names []string, err error) {
	var reply api.VMsReply
	err = app.Invoke(ctx, plugin, api.MethodVMs, struct{}{}, &reply)
	for _, vm := range reply.VMs {
		names = append(names, vm.Name+"\ton "+vm.Host)
	}
	return names, err
}

func typeNames(ctx context.Context, app command.App) (names []string, err error) {
	var reply api.TypesReply
	err = app.Invoke(ctx, plugin, api.MethodTypes, struct{}{}, &reply)
	for _, t := range reply.Types {
		names = append(names, t.Name)
	}
	return names, err
}

func templateNames(ctx context.Context, app command.App) (names []string, err error) {
	var reply api.TemplatesReply
	err = app.Invoke(ctx, plugin, api.MethodTemplates, struct{}{}, &reply)
	for _, t := range reply.Templates {
		names = append(names, t.Name+"\t"+t.Description)
	}
	return names, err
}

func moveIDs(ctx context.Context, app command.App) ([]string, error) {
	return idsOf(ctx, app, api.MethodMoves)
}

func endedIDs(ctx context.Context, app command.App) ([]string, error) {
	return idsOf(ctx, app, api.MethodHistory)
}

func idsOf(ctx context.Context, app command.App, method string) (names []string, err error) {
	var reply api.MovesReply
	err = app.Invoke(ctx, plugin, method, api.MovesRequest{}, &reply)
	for _, m := range reply.Moves {
		names = append(names, m.ID+"\t"+m.VM+" to "+m.To)
	}
	return names, err
}
