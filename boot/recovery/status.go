package recovery

import (
	"context"
	"fmt"
	"strings"

	"github.com/ratchetos/ratchet/boot/verdict"
)

// writeStatus shows the box and keeps the list of options for the numbers.
func (c *Console) writeStatus(ctx context.Context, b *strings.Builder) {
	s := c.box.Status(ctx)
	fmt.Fprintf(b, "verdict   %s %s: %s\n", strings.ToUpper(string(s.Verdict.Decision)), s.Verdict.Code, s.Verdict.Reason)
	from := ""
	switch {
	case s.Rescue:
		from = ", from a rescue stick"
	case s.Slot != "":
		from = ", slot " + s.Slot
	}
	fmt.Fprintf(b, "image     %s%s\n", s.Image, from)
	if s.TPM {
		fmt.Fprintf(b, "counter   %d, expected %d\n", s.Counter, s.Expected)
	} else {
		fmt.Fprintf(b, "counter   the TPM does not say\n")
	}
	if s.Ledger != "" {
		fmt.Fprintf(b, "ledger    %s\n", s.Ledger)
	}
	if s.Name != "" {
		fmt.Fprintf(b, "box       %s\n", s.Name)
	}
	for _, slot := range s.Slots {
		fmt.Fprintf(b, "slot %s    %s\n", slot.Name, slot.State)
	}
	for _, d := range s.Devices {
		if d.Code == "box-isolated" {
			fmt.Fprintf(b, "device    %s not looked at\n", d.ID)
			continue
		}
		fmt.Fprintf(b, "device    %s %s %s: %s\n", d.ID, strings.ToUpper(string(d.Decision)), d.Code, d.Reason)
	}
	if s.Outcome != "" {
		fmt.Fprintf(b, "request   %s\n", s.Outcome)
	}
	c.menu = Options(s)
	if next := first(c.menu); next != "" {
		fmt.Fprintf(b, "next      %s\n", next)
	} else if s.Verdict.Next != "" && s.Verdict.Decision != verdict.Released {
		fmt.Fprintf(b, "next      %s\n", s.Verdict.Next)
	}
	fmt.Fprintf(b, "\nWhat can be done (a number, a command, or help):\n")
	for i, o := range c.menu {
		fmt.Fprintf(b, "  %d  %-24s %s\n", i+1, o.Command, o.Why)
	}
}
