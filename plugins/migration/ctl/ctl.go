// Package ctl is the migration plugin's part of ratchetctl.
package ctl

import (
	"context"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/ratchetos/ratchet/plugins/migration/api"
)

// App is what ratchetctl offers to a plugin's commands.
type App interface {
	// Invoke calls a method of a plugin's management service through core.
	Invoke(ctx context.Context, plugin, method string, request, reply any) error
	// Print writes value as JSON or YAML, or the table, as the user chose.
	Print(value any, columns []string, rows [][]string) error
}

// Command is `ratchetctl migrate`.
func Command(app App) *cobra.Command {
	c := &cobra.Command{Use: "migrate", Short: "Hypervisor hosts and their VMs"}
	c.AddCommand(hosts(app), vms(app), show(app))
	return c
}

func hosts(app App) *cobra.Command {
	return &cobra.Command{
		Use: "hosts", Short: "List hosts with their state", Args: cobra.NoArgs,
		Example: "  ratchetctl migrate hosts",
		RunE: func(cmd *cobra.Command, _ []string) error {
			var reply api.HostsReply
			if err := app.Invoke(cmd.Context(), "migration", api.MethodHosts, struct{}{}, &reply); err != nil {
				return err
			}
			var rows [][]string
			for _, h := range reply.Hosts {
				rows = append(rows, []string{h.Name, h.State, h.Since.Format(time.RFC3339), h.Hypervisor, strconv.Itoa(h.VMs), h.Problem})
			}
			return app.Print(reply, []string{"HOST", "STATE", "SINCE", "HYPERVISOR", "VMS", "PROBLEM"}, rows)
		},
	}
}

func vms(app App) *cobra.Command {
	return &cobra.Command{
		Use: "vms", Short: "List VMs of all hosts that answer", Args: cobra.NoArgs,
		Example: "  ratchetctl migrate vms\n  ratchetctl migrate vms -o json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			var reply api.VMsReply
			if err := app.Invoke(cmd.Context(), "migration", api.MethodVMs, struct{}{}, &reply); err != nil {
				return err
			}
			var rows [][]string
			for _, vm := range reply.VMs {
				rows = append(rows, []string{
					vm.Name, vm.Host, vm.State, strconv.Itoa(vm.VCPUs) + "/" + strconv.Itoa(vm.MaxVCPUs),
					strconv.FormatUint(vm.Memory>>20, 10), strconv.Itoa(len(vm.Devices)),
				})
			}
			return app.Print(reply, []string{"VM", "HOST", "STATE", "VCPUS", "MEMORY MIB", "DEVICES"}, rows)
		},
	}
}

func show(app App) *cobra.Command {
	var host string
	c := &cobra.Command{
		Use: "show VM", Short: "Show one VM with its devices and last events", Args: cobra.ExactArgs(1),
		Example: "  ratchetctl migrate show web1\n  ratchetctl migrate show web1 --host rack2 -o json",
		RunE: func(cmd *cobra.Command, args []string) error {
			var reply api.VMReply
			if err := app.Invoke(cmd.Context(), "migration", api.MethodVM, api.VMRequest{Name: args[0], Host: host}, &reply); err != nil {
				return err
			}
			rows := [][]string{
				{"vm", reply.Name, reply.UUID},
				{"host", reply.Host, ""},
				{"state", reply.State, reply.Detail},
				{"vcpus", strconv.Itoa(reply.VCPUs), "of " + strconv.Itoa(reply.MaxVCPUs)},
				{"memory", strconv.FormatUint(reply.Memory>>20, 10) + " MiB", ""},
			}
			for _, d := range reply.Devices {
				rows = append(rows, []string{d.Kind, d.Model + " " + d.ID, d.Backing})
			}
			for _, e := range reply.Events {
				rows = append(rows, []string{"event", e.Time.Format(time.RFC3339), e.Name + " " + e.Detail})
			}
			return app.Print(reply, []string{"WHAT", "VALUE", "DETAIL"}, rows)
		},
	}
	c.Flags().StringVar(&host, "host", "", "host of the VM, when several have one of that name")
	return c
}
