package vm

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
)

// What Linux says of a processor that does not come back from its kernel, or gets no interrupts any more.
var complaints = []string{"soft lockup", "rcu_preempt detected stalls"}

const (
	stuckWait = 5 * time.Second // for QEMU's answer
	samples   = 3               // one place could be chance; the same one three times is a loop
)

// stuck says where the processors of a guest are whose kernel complained of one that does not come back. Such a guest
// prints nothing of use any more: what the registers say is all that is left to find out why.
func (v *VM) stuck() string {
	if !slices.ContainsFunc(complaints, v.console.contains) {
		return ""
	}
	ctx, cancel := context.WithTimeout(context.Background(), stuckWait)
	defer cancel()
	var b strings.Builder
	b.WriteString("\na processor of the guest is stuck; instruction and stack pointers:")
	for range samples {
		var text string
		err := v.qmp.Do(ctx, "human-monitor-command", map[string]string{"command-line": "info registers -a"}, &text)
		if err != nil {
			fmt.Fprintf(&b, "\n\t%v", err)
			break
		}
		b.WriteString("\n\t" + pointers(text))
	}
	return b.String()
}

// pointers keeps of QEMU's "info registers -a" which processor is where.
func pointers(registers string) string {
	var kept []string
	for word := range strings.FieldsSeq(registers) {
		for _, prefix := range []string{"CPU#", "RIP=", "RSP=", "RFL=", "CR3=", "HLT="} {
			if strings.HasPrefix(word, prefix) {
				kept = append(kept, word)
			}
		}
	}
	return strings.Join(kept, " ")
}
