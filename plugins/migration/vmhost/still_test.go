package vmhost

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"io"
	"net"
	"os/exec"
	"strings"
	"testing"

	"github.com/ratchetos/ratchet/plugins/migration/hypervisor/qmp"
)

// follows makes h follow a process as the QEMU of a VM, the destination of a move if one is named. say has its monitor say events.
func follows(t *testing.T, h *Host, name, move string) (m *machine, say func(events ...string)) {
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
		_, _ = lines.WriteTo(io.Discard)
	}()
	c, err := qmp.New(t.Context(), ours, nil)
	if err != nil {
		t.Fatal(err)
	}
	m = &machine{host: h, name: name, dir: h.vmDir(name), proc: p, cmd: sleep, monitor: c, rec: record{Version: recordVersion, Move: move}, ended: make(chan struct{})}
	go func() { // a QEMU that is killed closes its monitor
		for !p.gone(1000) { // a signal ends it, too
		}
		theirs.Close()
	}()
	h.add(m)
	return m, func(events ...string) {
		for _, e := range events {
			name, data, _ := strings.Cut(e, " ")
			fmt.Fprintf(theirs, `{"event": %q, "data": %s, "timestamp": {"seconds": 1, "microseconds": 0}}`+"\n", name, cmp.Or(data, "{}"))
		}
	}
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
		m, say := follows(t, h, name, "")
		say(tc.events...)
		if err := h.Kill(name); err != nil {
			t.Fatal(err)
		}
		<-m.ended
		if got := h.StoodStill(name); got != tc.want {
			t.Errorf("%q: stood still %t", tc.events, got)
		}
		if err := h.End(t.Context(), name, ""); err != nil {
			t.Error(err)
		}
	}
	_, say := follows(t, h, "again", "")
	say("STOP", switches)
	if err := h.Kill("again"); err != nil {
		t.Fatal(err)
	}
	follows(t, h, "again", "")
	if h.StoodStill("again") {
		t.Error("one of that name was started again")
	}
	if err := h.Kill("again"); err != nil {
		t.Fatal(err)
	}
	for err, want := range map[error]bool{io.EOF: true, io.ErrUnexpectedEOF: false, qmp.ErrSlow: false, net.ErrClosed: false, context.Canceled: false} {
		if saidAll(fmt.Errorf("QMP connection ended: %w", err)) != want {
			t.Errorf("%v: want %t", err, want)
		}
	}
}
