package ctl

import (
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/ratchetos/ratchet/plugins/internal/command"
	"github.com/ratchetos/ratchet/plugins/migration/api"
)

func vms(app command.App) *cobra.Command {
	c := &cobra.Command{
		Use: "vms", Short: "List VMs of all hosts that answer", Args: cobra.NoArgs,
		Example: "  ratchetctl migrate vms\n  ratchetctl migrate vms -o json",
	}
	return command.Watch(c, func(cmd *cobra.Command) error {
		var reply api.VMsReply
		if err := app.Invoke(cmd.Context(), plugin, api.MethodVMs, struct{}{}, &reply); err != nil {
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
	})
}

func show(app command.App) *cobra.Command {
	var host string
	c := &cobra.Command{
		Use: "show VM", Short: "Show one VM with its devices and last events", Args: cobra.ExactArgs(1),
		Example: "  ratchetctl migrate show web1\n  ratchetctl migrate show web1 --host rack2 -o json",
		RunE: func(cmd *cobra.Command, args []string) error {
			var reply api.VMReply
			if err := app.Invoke(cmd.Context(), plugin, api.MethodVM, api.VMRequest{Name: args[0], Host: host}, &reply); err != nil {
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
		ValidArgsFunction: command.Names(vmNames).First(app),
	}
	c.Flags().StringVar(&host, "host", "", "host of the VM, when several have one of that name")
	_ = c.RegisterFlagCompletionFunc("host", command.Names(hostNames).Flag(app))
	return c
}

func types(app command.App) *cobra.Command {
	return &cobra.Command{
		Use: "types", Short: "List the types of VMs in the configuration", Args: cobra.NoArgs,
		Example: "  ratchetctl migrate types",
		RunE: func(cmd *cobra.Command, _ []string) error {
			var reply api.TypesReply
			if err := app.Invoke(cmd.Context(), plugin, api.MethodTypes, struct{}{}, &reply); err != nil {
				return err
			}
			var rows [][]string
			for _, t := range reply.Types {
				vcpus, memory := "as it is", "as it is"
				if t.VCPUs > 0 {
					vcpus = strconv.Itoa(t.VCPUs)
				}
				if t.Memory > 0 {
					memory = t.Memory.String()
				}
				rows = append(rows, []string{t.Name, vcpus, memory, kept(t.CPU), kept(t.NIC), kept(t.Disk)})
			}
			return app.Print(reply, []string{"TYPE", "VCPUS", "MEMORY", "CPU", "NIC", "DISK"}, rows)
		},
	}
}

// kept writes what a type leaves out.
func kept(s string) string {
	if s == "" {
		return "as it is"
	}
	return s
}
