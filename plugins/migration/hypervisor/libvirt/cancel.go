package libvirt

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/ratchetos/ratchet/plugins/migration/hypervisor"
	"github.com/ratchetos/ratchet/plugins/migration/hypervisor/libvirt/remote"
	"github.com/ratchetos/ratchet/plugins/migration/hypervisor/libvirt/rpc"
)

// stuckAfter is how often a cancelled transfer is looked at that does not end. Most end within a few milliseconds.
const stuckAfter = 500 * time.Millisecond

// freedAfter is how soon it is looked at again: the guest may stand still meanwhile.
const freedAfter = 100 * time.Millisecond

// Cancel implements hypervisor.Transfer.
func (x *transfer) Cancel(ctx context.Context) error {
	if err := x.undo(ctx); err != nil {
		return fmt.Errorf("cancel move of %s: %w", x.m.VM, err)
	}
	return nil
}

// undo takes the transfer back. The destination ends first: two must never be able to run.
func (x *transfer) undo(ctx context.Context) error {
	x.mu.Lock()
	postCopy, undone, complete := x.postCopy, x.undone, x.complete
	x.mu.Unlock()
	switch {
	case postCopy:
		return errors.New("a post-copy was ordered, which cannot be taken back")
	case undone:
		return nil
	case complete:
		// It may be the only copy: it is kept until the source runs, which Confirm and then Finish see to.
		return errors.New("the destination has everything")
	}
	if err := x.abort(ctx); err != nil {
		return err
	}
	if a := x.p.moves.arrival(x.m.ID, x.m.To); a != nil {
		if err := a.port.Finish(ctx, x.m, false); err != nil {
			return err
		}
	}
	if err := x.p.resume(ctx, x.m, x.d); err != nil {
		return err
	}
	x.mu.Lock()
	x.undone = true
	x.mu.Unlock()
	return nil
}

// abort ends the job of the transfer, and returns when Perform3 has.
func (x *transfer) abort(ctx context.Context) error {
	if x.over() {
		return nil
	}
	if err := x.p.conn.AbortJob(ctx, x.d.dom); err != nil && !rpc.IsCode(err, rpc.CodeOperationInvalid) {
		return err
	}
	since := time.Now()
	tick := time.NewTicker(stuckAfter)
	defer tick.Stop()
	for {
		select {
		case <-x.performed:
			return nil
		case <-ctx.Done():
			return fmt.Errorf("libvirt on %s was told to end the transfer and has not for %v; see virsh domjobinfo %s there: %w",
				x.p.conf.Name, time.Since(since).Round(100*time.Millisecond), x.m.VM, ctx.Err())
		case <-tick.C:
		}
		freed, err := x.p.unstick(ctx, x.d.dom)
		switch {
		case err != nil:
			x.p.log.Debug("a cancelled transfer that does not end cannot be looked at", "vm", x.m.VM, "err", err)
		case freed:
			x.p.log.Info("libvirt waits for what has been; it was given another", "vm", x.m.VM)
			tick.Reset(freedAfter)
		}
	}
}

// orphanLimit is how long the next manager waits for a transfer to end that it did not begin.
const orphanLimit = 2 * time.Second

// orphaned ends the job that a transfer has left whose manager is gone: libvirt drops what waits for a manager's word when
// its connection ends, but not what is under way. A VM that runs is as it shall be, so a job that stays is no failure: who
// moves the VM next is told of it by Begin.
func (p *Port) orphaned(ctx context.Context, dom remote.Domain) error {
	limit := time.NewTimer(orphanLimit)
	defer limit.Stop()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for told := false; ; told = true {
		kind, stats, err := p.conn.JobStats(ctx, dom, false)
		if err != nil {
			return fmt.Errorf("look at the job of %s on %s: %w", dom.Name, p.conf.Name, err)
		}
		if kind == remote.JobNone || stats.Uint("operation") != remote.OperationMigrationOut {
			return nil
		}
		if !told {
			if err := p.conn.AbortJob(ctx, dom); err != nil && !rpc.IsCode(err, rpc.CodeOperationInvalid) {
				return fmt.Errorf("end the job of %s on %s: %w", dom.Name, p.conf.Name, err)
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("libvirt on %s does not end the transfer that an earlier manager began; see virsh domjobinfo %s there: %w", p.conf.Name, dom.Name, ctx.Err())
		case <-limit.C:
			p.log.Warn("libvirt keeps the job of a transfer that an earlier manager began", "vm", dom.Name)
			return nil
		case <-tick.C:
		}
	}
}

// unstick frees a daemon that waits for what has passed, and tells whether it tried. A cancel that comes when QEMU has just
// sent everything meets QEMU (7.2) or libvirt (9.0, qemuMigrationSrcRun and qemuMigrationSrcCancel) in one of three waits without
// an end, with the job held, which a second cancel does not change:
//
//   - QEMU for the word to go on with the switch, which a cancel gives only to one that waits already (package qmp has the
//     same). So it is given the word.
//   - libvirt for the guest to stop, which it had, but runs on by then. So it is stopped; libvirt or resume lets it run again.
//   - libvirt for QEMU to say "cancelled", which it had, but libvirt overwrote it with an older answer to query-migrate. So QEMU is
//     given a transfer to where nothing can be, of which it says "failed".
func (p *Port) unstick(ctx context.Context, dom remote.Domain) (bool, error) {
	status, err := p.status(ctx, dom)
	switch {
	case err != nil:
		return false, err
	case status == "cancelling":
		_, err := p.conn.Monitor(ctx, dom, `{"execute":"migrate-continue","arguments":{"state":"cancelling"}}`)
		return true, err
	case status != "cancelled" && status != "failed":
		return false, nil // what QEMU has yet to end would only leave the guest standing
	}
	state, _, err := p.state(ctx, dom)
	if err != nil {
		return false, err
	}
	if state == hypervisor.Running {
		return true, p.conn.Suspend(ctx, dom)
	}
	_, err = p.conn.Monitor(ctx, dom, `{"execute":"migrate","arguments":{"uri":"unix:/dev/null/nowhere"}}`)
	return true, err
}

// status is that of the last migration in QEMU's own words.
func (p *Port) status(ctx context.Context, dom remote.Domain) (string, error) {
	text, err := p.conn.Monitor(ctx, dom, `{"execute":"query-migrate"}`)
	if err != nil {
		return "", err
	}
	var answer struct {
		Return struct{ Status string }
	}
	if err := json.Unmarshal([]byte(text), &answer); err != nil {
		return "", fmt.Errorf("query-migrate of %s on %s: %w", dom.Name, p.conf.Name, err)
	}
	return answer.Return.Status, nil
}
