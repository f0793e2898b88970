package ctl

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/ratchetos/ratchet/plugins/internal/command"
	"github.com/ratchetos/ratchet/plugins/migration/api"
	"github.com/ratchetos/ratchet/plugins/migration/model"
)

// request collects the flags of `plan` and `apply` that say what shall be moved.
type request struct {
	api.MoveRequest
	goal    model.Goal
	command *cobra.Command
}

func (r *request) register(app command.App, c *cobra.Command) {
	r.command = c
	f := c.Flags()
	f.StringVar(&r.To, "to", "", "host to move the VM to")
	f.StringVar(&r.Host, "host", "", "host of the VM, when several have one of that name")
	f.StringVar(&r.Template, "template", "", "move what a template selects instead of one VM")
	f.StringVar(&r.Type, "type", "", "type that the VM shall have")
	f.IntVar(&r.Change.VCPUs, "vcpus", 0, "processors that the VM shall have")
	f.TextVar(&r.Change.Memory, "memory", r.Change.Memory, "memory that the VM shall have, as 2GiB")
	f.StringVar(&r.Change.CPU, "cpu", "", "CPU model that the VM shall have")
	f.StringVar(&r.Change.NIC, "nic", "", "model that its network cards shall have, as virtio-net-pci")
	f.StringVar(&r.Change.Disk, "disk", "", "model that its disks shall have, as virtio-blk-pci")

	f.TextVar(&r.goal.MaxGap, "max-gap", r.goal.MaxGap, "longest time in which the guest may stand still, as 300ms")
	f.TextVar(&r.goal.Deadline, "deadline", r.goal.Deadline, "longest time from the start of the move to its end")
	f.TextVar(&r.goal.Bandwidth, "bandwidth", r.goal.Bandwidth, "bytes a second that the move may use, as 100MiB")
	f.TextVar(&r.goal.PostCopyBandwidth, "post-copy-bandwidth", r.goal.PostCopyBandwidth, "bytes a second for what is left when the move ends by post-copy; all there is by default, since the guest waits for it")
	f.BoolVar(&r.goal.AllowThrottle, "allow-throttle", false, "the guest may be slowed down when it writes faster than can be sent")
	f.BoolVar(&r.goal.AllowPostCopy, "allow-post-copy", false, "the guest may run before all its memory has arrived: a link that is cut then can lose the VM")
	f.BoolVar(&r.goal.AllowPlain, "allow-plain", false, "memory and disks may be sent without TLS to hosts that have none")

	for flag, list := range map[string]command.Names{"to": hostNames, "host": hostNames, "template": templateNames, "type": typeNames} {
		_ = c.RegisterFlagCompletionFunc(flag, list.Flag(app)) // fails for a flag that is not there
	}
}

// of reads what was given.
func (r *request) of(args []string) (api.MoveRequest, error) {
	if len(args) > 0 {
		r.VM = args[0]
	}
	switch {
	case (r.VM == "") == (r.Template == ""):
		return r.MoveRequest, errors.New("name a VM, or a template with --template")
	case r.Template != "" && r.given("to", "host", "type", "vcpus", "memory", "cpu", "nic", "disk"):
		return r.MoveRequest, errors.New("a template says itself what its VMs become and where they go: take the other flags away")
	case r.VM != "" && r.To == "":
		return r.MoveRequest, errors.New("name the host to move it to with --to; `ratchetctl migrate hosts` lists them")
	}
	if r.given("max-gap", "deadline", "bandwidth", "post-copy-bandwidth", "allow-throttle", "allow-post-copy", "allow-plain") {
		r.Goal = &r.goal // otherwise the configuration's counts
	}
	return r.MoveRequest, nil
}

func (r *request) given(flags ...string) bool {
	return slices.ContainsFunc(flags, r.command.Flags().Changed)
}

const moveExamples = `  ratchetctl migrate %[1]s web1 --to rack2
  ratchetctl migrate %[1]s web1 --to rack2 --type large --max-gap 100ms
  ratchetctl migrate %[1]s --template evacuate-rack1`

func planned(app command.App) *cobra.Command {
	r := &request{}
	c := &cobra.Command{
		Use: "plan [VM]", Short: "Show what a move would do, what it costs, and what cannot be done and why", Args: cobra.MaximumNArgs(1),
		Long: `Ask both hosts and the guest's agent, and show the steps of a move with the gap that each may cost the guest. Nothing is
changed and nothing is sent. What cannot be done is said with its reason and what helps; the command fails then.`,
		Example: fmt.Sprintf(moveExamples, "plan"),
		RunE: func(cmd *cobra.Command, args []string) error {
			request, err := r.of(args)
			if err != nil {
				return err
			}
			return showPlan(app, cmd, request)
		},
		ValidArgsFunction: command.Names(vmNames).First(app),
	}
	r.register(app, c)
	c.Flags().Bool("dry-run", true, "always set: plan changes nothing")
	return c
}

func showPlan(app command.App, cmd *cobra.Command, request api.MoveRequest) error {
	var reply api.PlanReply
	if err := app.Invoke(cmd.Context(), plugin, api.MethodPlan, request, &reply); err != nil {
		return err
	}
	text, refused := reply.Text, 0
	for _, p := range reply.Plans {
		if p.Plan == nil {
			refused++
		}
		if reply.Text == "" {
			text += p.Text
		}
	}
	var lines [][]string
	for line := range strings.Lines(text) {
		lines = append(lines, []string{strings.TrimRight(line, "\n")})
	}
	if err := app.Print(reply, []string{"# nothing has been changed"}, lines); err != nil {
		return err
	}
	return cannot(refused, len(reply.Plans))
}

func cannot(refused, of int) error {
	switch {
	case refused == 0:
		return nil
	case of == 1:
		return errors.New("the VM cannot be moved like this")
	}
	return fmt.Errorf("%d of %d VMs cannot be moved like this", refused, of)
}

func apply(app command.App) *cobra.Command {
	r := &request{}
	var dryRun, wait bool
	var after time.Duration
	c := &cobra.Command{
		Use: "apply [VM]", Short: "Move a VM, or what a template selects", Args: cobra.MaximumNArgs(1),
		Long: `Plan a move and begin it. A move that the plan refuses is not begun, and no byte is sent. Until it is committed a move
that fails or is cancelled leaves the VM at its source in its former shape.`,
		Example: fmt.Sprintf(moveExamples, "apply") + "\n  ratchetctl migrate apply web1 --to rack2 --at best\n  ratchetctl migrate apply web1 --to rack2 --wait",
		RunE: func(cmd *cobra.Command, args []string) error {
			request, err := r.of(args)
			if err != nil {
				return err
			}
			if after > 0 {
				request.NotBefore = time.Now().Add(after)
			}
			if dryRun {
				return showPlan(app, cmd, request)
			}
			return begin(app, cmd, request, wait)
		},
		ValidArgsFunction: command.Names(vmNames).First(app),
	}
	r.register(app, c)
	f := c.Flags()
	f.StringVar(&r.When, "at", api.WhenNow, "now, or best for the slot that the forecast of the link advises")
	f.DurationVar(&after, "after", 0, "wait this long at least, as 2h, then begin in the best slot")
	f.StringSliceVar(&r.Windows, "window", nil, "maintenance window in which it shall happen; of several, one")
	f.IntVar(&r.Priority, "priority", 0, "moves of a higher one go first and get the bandwidth")
	f.BoolVar(&dryRun, "dry-run", false, "show the plan and change nothing, as plan does")
	f.BoolVar(&wait, "wait", false, "return when every move has ended or is held for an operator")
	_ = c.RegisterFlagCompletionFunc("at", cobra.FixedCompletions([]string{api.WhenNow, api.WhenBest}, cobra.ShellCompDirectiveNoFileComp))
	return c
}

func begin(app command.App, cmd *cobra.Command, request api.MoveRequest, wait bool) error {
	var reply api.ApplyReply
	if err := app.Invoke(cmd.Context(), plugin, api.MethodApply, request, &reply); err != nil {
		return err
	}
	var rows [][]string
	var ids []string
	for _, m := range reply.Moves {
		at := "now"
		if !m.At.IsZero() {
			at = m.At.Format(time.RFC3339)
		}
		rows = append(rows, []string{m.ID, m.VM, m.From, m.To, at, m.Why})
		ids = append(ids, m.ID)
	}
	for _, p := range reply.Refused {
		for i, refusal := range p.Refusals {
			vm := p.VM
			if i > 0 {
				vm = ""
			}
			rows = append(rows, []string{"", vm, p.From, p.To, "refused", refusal.String()})
		}
	}
	for _, w := range reply.Warnings {
		rows = append(rows, []string{"", "", "", "", "warning", w})
	}
	if err := app.Print(reply, []string{"MOVE", "VM", "FROM", "TO", "BEGINS", "NOTE"}, rows); err != nil {
		return err
	}
	if wait {
		if err := untilEnded(app, cmd, ids); err != nil {
			return err
		}
	}
	return cannot(len(reply.Refused), len(reply.Refused)+len(reply.Moves))
}
