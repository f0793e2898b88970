package ctl

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/ratchetos/ratchet/plugins/internal/command"
	"github.com/ratchetos/ratchet/plugins/migration/api"
)

// completeWithin is how long a shell waits for the box to say what there is.
const completeWithin = time.Second

// names lists what can be written in a place, each with a word about it.
type names func(ctx context.Context, app command.App) ([]string, error)

// first completes a command's first argument.
func (n names) first(app command.App) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return n.flag(app)(cmd, args, typed)
	}
}

// flag completes the value of a flag.
func (n names) flag(app command.App) cobra.CompletionFunc {
	return func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
		ctx, cancel := context.WithTimeout(cmd.Context(), completeWithin)
		defer cancel()
		list, err := n(ctx, app)
		if err != nil {
			return nil, cobra.ShellCompDirectiveError
		}
		return list, cobra.ShellCompDirectiveNoFileComp
	}
}

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
