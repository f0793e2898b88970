package vmhost

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os/exec"
	"strings"
	"testing"

	"github.com/ratchetos/ratchet/plugins/migration/hypervisor/qmp"
)

// follows makes h follow a process as the QEMU of a VM, whose monitor says each of events after its greeting. Then
// both end.
func follows(t *testing.T, h *Host, name string, events ...string) *machine {
	t.Helper()
	sleep := exec.Command("sleep", "60")
	if err := sleep.Start(); err != nil {
		t.Fatal(err)
	}
	p, err := openProcess(sleep.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs := net.Pipe()
	go func() {
		lines := bufio.NewReader(theirs)
		fmt.Fprintln(theirs, `{"QMP": {"version": {"qemu": {"major": 7, "minor": 2, "micro": 0}}, "capabilities": []}}`)
		_, _ = lines.ReadString('\n')
		fmt.Fprintln(theirs, `{"return": {}, "id": 1}`)
		for _, e := range events {
			name, data, _ := strings.Cut(e, " ")
			if data == "" {
				data = "{}"
			}
			fmt.Fprintf(theirs, `{"event": %q, "data": %s, "timestamp": {"seconds": 1, "microseconds": 0}}`+"\n", name, data)
		}
		_ = sleep.Process.Kill()
		theirs.Close()
	}()
	c, err := qmp.New(t.Context(), ours, nil)
	if err != nil {
		t.Fatal(err)
	}
	m := &machine{host: h, name: name, dir: h.vmDir(name), proc: p, cmd: sleep, monitor: c, ended: make(chan struct{})}
	h.add(m)
	return m
}

// TestStoodStill: only of a VM whose monitor was read from its switch to its end without a word that it runs is it told that it
// stood still (invariant M1).
func TestStoodStill(t *testing.T) {
	const switches, fails = `MIGRATION {"status": "pre-switchover"}`, `MIGRATION {"status": "failed"}`
	c, _ := conf(t)
	h := agent(t, c)
	defer h.Close()
	for i, tc := range []struct {
		events []string
		want   bool
	}{
		{nil, false},
		{[]string{"STOP"}, false}, // by a person, who let it run again while nobody looked, perhaps
		{[]string{"STOP", switches}, true},
		{[]string{"STOP", switches, `MIGRATION {"status": "completed"}`}, true},
		{[]string{"STOP", switches, fails, "RESUME"}, false},
		{[]string{"STOP", switches, fails, "RESUME", "BLOCK_IO_ERROR", "STOP"}, false},
		{[]string{"STOP", switches, fails, "RESUME", "STOP", switches}, true},
	} {
		name := fmt.Sprint("vm", i)
		m := follows(t, h, name, tc.events...)
		<-m.ended
		if got := h.StoodStill(name); got != tc.want {
			t.Errorf("%q: stood still %t", tc.events, got)
		}
		if err := h.End(t.Context(), name, ""); err != nil {
			t.Error(err)
		}
	}
	m := follows(t, h, "vm2")
	if h.StoodStill("vm2") {
		t.Error("one of that name was started again")
	}
	<-m.ended
	for err, want := range map[error]bool{io.EOF: true, io.ErrUnexpectedEOF: false, qmp.ErrSlow: false, net.ErrClosed: false, context.Canceled: false} {
		if saidAll(fmt.Errorf("QMP connection ended: %w", err)) != want {
			t.Errorf("%v: want %t", err, want)
		}
	}
}
