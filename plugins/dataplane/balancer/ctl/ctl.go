// Package ctl is the balancer's part of ratchetctl.
package ctl

import (
	"context"
	"fmt"
	"math"
	"os"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/ratchetos/ratchet/plugins/dataplane/balancer/api"
	"github.com/ratchetos/ratchet/plugins/internal/command"
)

const plugin = "dataplane"

// Command are the commands below `ratchetctl dataplane`.
func Command(app command.App) []*cobra.Command {
	return []*cobra.Command{vips(app), backends(app), flows(app), drops(app), balancers(app), peer(app), weight(app), capture(app)}
}

// vipNames completes the name of a VIP.
func vipNames(ctx context.Context, app command.App) (names []string, err error) {
	var reply api.VIPsReply
	err = app.Invoke(ctx, plugin, api.MethodVIPs, api.VIPsRequest{}, &reply)
	for _, v := range reply.VIPs {
		names = append(names, v.Name+"\t"+v.Address)
	}
	return names, err
}

func vips(app command.App) *cobra.Command {
	c := &cobra.Command{
		Use: "vips", Short: "List VIPs with their backends' number and counters", Args: cobra.NoArgs,
		Example: "  ratchetctl dataplane vips\n  ratchetctl dataplane vips -w",
	}
	return command.Watch(c, func(cmd *cobra.Command) error {
		var reply api.VIPsReply
		if err := app.Invoke(cmd.Context(), plugin, api.MethodVIPs, api.VIPsRequest{}, &reply); err != nil {
			return err
		}
		var rows [][]string
		for _, v := range reply.VIPs {
			serving := 0
			for _, b := range v.Backends {
				if b.State == "serving" || b.State == "starting" {
					serving++
				}
			}
			rows = append(rows, []string{
				v.Name, v.Address, v.Protocol, v.Ports, fmt.Sprintf("%d of %d", serving, len(v.Backends)),
				number(v.Packets), number(v.Bytes), number(v.NewFlows), number(v.Refused),
			})
		}
		return app.Print(reply, []string{"VIP", "ADDRESS", "PROTOCOL", "PORTS", "SERVING", "PACKETS", "BYTES", "NEW FLOWS", "REFUSED"}, rows)
	})
}

func backends(app command.App) *cobra.Command {
	c := &cobra.Command{
		Use: "backends VIP", Short: "List a VIP's backends with their state and capacity", Args: cobra.ExactArgs(1), ValidArgsFunction: command.Names(vipNames).First(app),
		Example: "  ratchetctl dataplane backends web -w",
	}
	return command.Watch(c, func(cmd *cobra.Command) error {
		var reply api.VIPsReply
		name := cmd.Flags().Arg(0)
		if err := app.Invoke(cmd.Context(), plugin, api.MethodVIPs, api.VIPsRequest{Name: name}, &reply); err != nil {
			return err
		}
		if len(reply.VIPs) == 0 {
			return fmt.Errorf("no VIP %q: ratchetctl dataplane vips lists them", name)
		}
		var rows [][]string
		for _, b := range reply.VIPs[0].Backends {
			rows = append(rows, []string{
				b.Name, b.Address, b.State, strconv.FormatUint(uint64(b.Weight), 10), some(b.Limit), some(b.Left), number(b.Dispatched), age(b.ReportAge), b.Why,
			})
		}
		return app.Print(reply.VIPs[0], []string{"BACKEND", "ADDRESS", "STATE", "WEIGHT", "LIMIT", "LEFT", "DISPATCHED", "REPORT AGE", "WHY"}, rows)
	})
}

func flows(app command.App) *cobra.Command {
	c := &cobra.Command{
		Use: "flows", Short: "Show how full the flow table is, by backend", Args: cobra.NoArgs,
		Long:    "Show how full the flow table is, by backend.\n\nThe table holds keyed hashes of connections, not addresses: whose they are cannot be listed. `dataplane capture` shows packets.",
		Example: "  ratchetctl dataplane flows -w",
	}
	return command.Watch(c, func(cmd *cobra.Command) error {
		var r api.FlowsReply
		if err := app.Invoke(cmd.Context(), plugin, api.MethodFlows, struct{}{}, &r); err != nil {
			return err
		}
		var rows [][]string
		for _, b := range r.Backends {
			rows = append(rows, []string{b.Component, b.Name, strconv.Itoa(b.HalfOpen), strconv.Itoa(b.Established), strconv.Itoa(b.Brief)})
		}
		rows = append(rows, []string{
			"all", fmt.Sprintf("of %d", r.Capacity), strconv.Itoa(r.Opening + r.Tentative), strconv.Itoa(r.Established), strconv.Itoa(r.Brief),
		})
		return app.Print(r, []string{"COMPONENT", "BACKEND", "HALF-OPEN", "ESTABLISHED", "UDP OR CLOSING"}, rows)
	})
}

func drops(app command.App) *cobra.Command {
	c := &cobra.Command{
		Use: "drops", Short: "List packets that were not forwarded, by reason", Args: cobra.NoArgs,
		Example: "  ratchetctl dataplane drops -w",
	}
	return command.Watch(c, func(cmd *cobra.Command) error {
		var r api.DropsReply
		if err := app.Invoke(cmd.Context(), plugin, api.MethodDrops, struct{}{}, &r); err != nil {
			return err
		}
		var rows [][]string
		for _, d := range r.Reasons {
			rows = append(rows, []string{d.Reason, strconv.FormatBool(d.Dropped), number(d.Packets)})
		}
		return app.Print(r, []string{"REASON", "DROPPED", "PACKETS"}, rows)
	})
}

func balancers(app command.App) *cobra.Command {
	c := &cobra.Command{
		Use: "balancers", Short: "List the other balancers of the same VIPs", Args: cobra.NoArgs,
		Example: "  ratchetctl dataplane balancers -w",
	}
	return command.Watch(c, func(cmd *cobra.Command) error {
		var r api.PeersReply
		if err := app.Invoke(cmd.Context(), plugin, api.MethodPeers, struct{}{}, &r); err != nil {
			return err
		}
		rows := [][]string{{"self", strconv.FormatBool(r.Active == "self"), "true", "true", "", "", "", "", ""}}
		for _, p := range r.Peers {
			rows = append(rows, []string{
				p.Name, strconv.FormatBool(r.Active == p.Name), strconv.FormatBool(p.Alive), strconv.FormatBool(p.InStep), number(p.Sent), number(p.Taken),
				strconv.Itoa(p.Waiting), fmt.Sprintf("%.1f ms", p.LagMilli), p.Problem,
			})
		}
		return app.Print(r, []string{"BALANCER", "ACTIVE", "ALIVE", "IN STEP", "SENT", "TAKEN", "WAITING", "LAG", "PROBLEM"}, rows)
	})
}

func peer(app command.App) *cobra.Command {
	return &cobra.Command{
		Use: "peer NAME FILE", Short: "Give this box the identity with which it joins another balancer", Args: cobra.ExactArgs(2),
		Long:    "Give this box the identity with which it joins another balancer: the file that `ratchetctl dataplane agent enroll` printed there.\nNAME is the peer's in balancer.peers. Do it on both boxes.",
		Example: "  ratchetctl --context a dataplane agent enroll b > b.pem\n  ratchetctl --context b dataplane peer a b.pem",
		RunE: func(cmd *cobra.Command, args []string) error {
			pem, err := os.ReadFile(args[1])
			if err != nil {
				return fmt.Errorf("read identity: %w", err)
			}
			return app.Invoke(cmd.Context(), plugin, api.MethodIdentity, api.IdentityRequest{Peer: args[0], PEM: pem}, &struct{}{})
		},
	}
}

func weight(app command.App) *cobra.Command {
	return &cobra.Command{
		Use: "weight VIP BACKEND WEIGHT|drain|default", Short: "Change a backend's weight until it is taken back", Args: cobra.ExactArgs(3), ValidArgsFunction: command.Names(vipNames).First(app),
		Long:    "Change a backend's weight in a VIP until it is taken back with default. Weight 0, or drain, keeps its connections and gives it no new ones.\nIt holds over restarts; the configuration is not changed.",
		Example: "  ratchetctl dataplane weight web web3 drain\n  ratchetctl dataplane weight web web3 default",
		RunE: func(cmd *cobra.Command, args []string) error {
			w, err := parseWeight(args[2])
			if err != nil {
				return err
			}
			q := api.WeightsRequest{Changes: []api.Weight{{VIP: args[0], Backend: args[1], Weight: w}}}
			return app.Invoke(cmd.Context(), plugin, api.MethodWeights, q, &struct{}{})
		},
	}
}

func parseWeight(s string) (*uint32, error) {
	switch s {
	case "default":
		return nil, nil
	case "drain":
		return new(uint32), nil
	}
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil {
		return nil, fmt.Errorf("weight %q is not 0 to %d, drain or default", s, math.MaxUint16)
	}
	w := uint32(n)
	return &w, nil
}

func capture(app command.App) *cobra.Command {
	var q api.CaptureRequest
	c := &cobra.Command{
		Use: "capture FILE", Short: "Write packets of a VIP or of a drop reason to a pcap file", Args: cobra.ExactArgs(1),
		Long:    "Write packets of a VIP, of a reason as `dataplane drops` names it, or of all to a pcap file: 256 bytes of each, as they leave. It ends with the last packet or after the time; one capture runs at a time.",
		Example: "  ratchetctl dataplane capture --vip web --packets 50 web.pcap\n  ratchetctl dataplane capture --reason \"no route\" --seconds 30 drops.pcap",
		RunE: func(cmd *cobra.Command, args []string) error {
			file := args[0]
			var r api.CaptureReply
			if err := app.Invoke(cmd.Context(), plugin, api.MethodCapture, q, &r); err != nil {
				return err
			}
			if err := os.WriteFile(file, r.PCAP, 0o600); err != nil {
				return fmt.Errorf("write capture: %w", err)
			}
			return app.Print(map[string]any{"packets": r.Packets, "file": file}, []string{"PACKETS", "FILE"}, [][]string{{strconv.Itoa(r.Packets), file}})
		},
	}
	f := c.Flags()
	f.StringVar(&q.VIP, "vip", "", "packets of this VIP")
	_ = c.RegisterFlagCompletionFunc("vip", command.Names(vipNames).Flag(app)) // fails for a flag that is not there
	f.StringVar(&q.Reason, "reason", "", "packets with this fate")
	f.IntVar(&q.Packets, "packets", 100, "how many, at most 8192")
	f.IntVar(&q.Seconds, "seconds", 10, "how long, at most 60")
	return c
}

func number(n uint64) string { return strconv.FormatUint(n, 10) }

// some is a number of which -1 is none.
func some(n int64) string {
	if n == -1 {
		return "-"
	}
	return strconv.FormatInt(n, 10)
}

func age(seconds float64) string {
	if seconds < 0 {
		return "-"
	}
	return fmt.Sprintf("%.2f s", seconds)
}
