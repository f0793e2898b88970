package ctl

import (
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/ratchetos/ratchet/plugins/internal/command"
	"github.com/ratchetos/ratchet/plugins/internal/enrol"
	"github.com/ratchetos/ratchet/plugins/migration/api"
)

func hosts(app command.App) *cobra.Command {
	c := &cobra.Command{
		Use: "hosts", Short: "List hosts with their state", Args: cobra.NoArgs,
		Example: "  ratchetctl migrate hosts\n  ratchetctl migrate hosts -w",
	}
	return command.Watch(c, func(cmd *cobra.Command) error {
		var reply api.HostsReply
		if err := app.Invoke(cmd.Context(), plugin, api.MethodHosts, struct{}{}, &reply); err != nil {
			return err
		}
		var rows [][]string
		for _, h := range reply.Hosts {
			rows = append(rows, []string{h.Name, h.State, h.Since.Format(time.RFC3339), h.Hypervisor, strconv.Itoa(h.VMs), h.Problem})
		}
		return app.Print(reply, []string{"HOST", "STATE", "SINCE", "HYPERVISOR", "VMS", "PROBLEM"}, rows)
	})
}

// host is `ratchetctl migrate host`.
func host(app command.App) *cobra.Command {
	c := &cobra.Command{
		Use: "host", Short: "Credentials of hosts with bare QEMU: enrol, revoke",
		Example: "  ratchetctl migrate host enroll a --file vmhost.pem",
	}
	c.AddCommand(enroll(app), revoke(app))
	return c
}

func enroll(app command.App) *cobra.Command {
	var out string
	c := &cobra.Command{
		Use: "enroll NAME", Short: "Enrol a host and print the file that ratchet vmhost needs there", Args: cobra.ExactArgs(1),
		Long: `Enrol a host and print its identity: certificate, private key and this box's authority, in PEM. The box does not keep
the key. Enrolling a host again makes its earlier file void.`,
		Example: "  ratchetctl migrate host enroll rack1 > rack1.pem\n  ratchetctl migrate host enroll rack1 --file /etc/ratchet/vmhost.pem",
		RunE: func(cmd *cobra.Command, args []string) error {
			var reply api.EnrollReply
			if err := app.Invoke(cmd.Context(), plugin, api.MethodEnroll, api.HostRequest{Name: args[0]}, &reply); err != nil {
				return err
			}
			if out == "" {
				_, err := fmt.Fprint(cmd.OutOrStdout(), reply.Bundle)
				return err
			}
			return enrol.WriteFile(out, reply.Bundle)
		},
		ValidArgsFunction: command.Names(hostNames).First(app),
	}
	c.Flags().StringVar(&out, "file", "", "write it there, for the owner alone, instead of printing it")
	return c
}

func revoke(app command.App) *cobra.Command {
	return &cobra.Command{
		Use: "revoke NAME", Short: "Make a host's identity void", Args: cobra.ExactArgs(1),
		Example: "  ratchetctl migrate host revoke rack1",
		RunE: func(cmd *cobra.Command, args []string) error {
			return app.Invoke(cmd.Context(), plugin, api.MethodRevoke, api.HostRequest{Name: args[0]}, &struct{}{})
		},
		ValidArgsFunction: command.Names(hostNames).First(app),
	}
}
