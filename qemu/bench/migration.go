package bench

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"github.com/ratchetos/ratchet/plugins/migration/model"
	"github.com/ratchetos/ratchet/plugins/migration/run"
	"github.com/ratchetos/ratchet/qemu/lab"
	"github.com/ratchetos/ratchet/qemu/trial"
)

const (
	migrationRuns = 9
	// What the guest holds, and rewrites while it moves.
	migrationMiB  = 64
	migrationRate = 5 << 20
)

// migrationMove moves a guest by the plugin's runner and another by bare QMP, in turn, both over TLS and with the start of the
// destination: what the manager's order of things costs.
func (s *session) migrationMove(ctx context.Context) error {
	runs := migrationRuns
	if s.Quick {
		runs = 2
	}
	r, err := trial.Open(ctx, trial.Options{})
	if err != nil {
		return err
	}
	defer r.Close()
	peer, err := startPeer(ctx, r.Lab)
	if err != nil {
		return err
	}
	s.note("move a guest by the runner and one by bare QMP, %d times each", runs)
	var gaps, totals, gapRatios, totalRatios []float64
	for n := range runs {
		ours, err := runnerMove(ctx, r)
		if err != nil {
			return err
		}
		gap, total, err := peer.move(ctx, n)
		if err != nil {
			return fmt.Errorf("move by bare QMP: %w", err)
		}
		s.note("runner: silent for %v of %v; bare QMP: %v of %v", ours.Silence, ours.Total, gap, total)
		gaps = append(gaps, ours.Silence.Seconds()*1000)
		totals = append(totals, ours.Total.Seconds())
		gapRatios = append(gapRatios, ours.Silence.Seconds()/gap.Seconds())
		totalRatios = append(totalRatios, ours.Total.Seconds()/total.Seconds())
	}
	const by = "bare QMP over TLS, same run"
	s.figures.Record("migration.move_gap_ratio", Figure{Value: Median(gapRatios), Unit: "x", Goal: "<= 1.5", Peer: by, N: runs})
	s.figures.Record("migration.move_time_ratio", Figure{Value: Median(totalRatios), Unit: "x", Goal: "<= 1.1", Peer: by, N: runs})
	s.figures.Record("migration.move_gap", Figure{Value: Median(gaps), Unit: "ms", N: runs})
	s.figures.Record("migration.move_time", Figure{Value: Median(totals), Unit: "s", N: runs})
	return nil
}

// runnerMove plans a move to the other host and has it carried out, with every page read afterwards.
func runnerMove(ctx context.Context, r *trial.Rig) (trial.Result, error) {
	p, err := r.Plan(ctx, model.VMType{}, model.Goal{})
	if err != nil {
		return trial.Result{}, err
	}
	if err := r.Guest.Memory(ctx, migrationMiB, migrationRate); err != nil {
		return trial.Result{}, err
	}
	res, err := r.Move(ctx, p, nil)
	if err == nil && res.Outcome != run.Moved {
		err = fmt.Errorf("the move ended %s: %s", res.Outcome, res.Problem)
	}
	if err != nil {
		return res, err
	}
	return res, r.Proof(ctx, false)
}

// peer is a guest that is moved without a manager.
type peer struct {
	guest *lab.Guest
	on    *lab.Machine
	tls   lab.Credentials
}

func startPeer(ctx context.Context, l *lab.Lab) (*peer, error) {
	p := &peer{tls: lab.Credentials{
		Source: filepath.Join(l.Dir, trial.Alpha, "tls"), Target: filepath.Join(l.Dir, trial.Beta, "tls"), Host: trial.Beta,
	}}
	var err error
	if p.guest, err = l.Guest("peer"); err != nil {
		return nil, err
	}
	if p.on, err = p.guest.Bare(ctx, "peer"); err != nil {
		return nil, err
	}
	return p, p.on.QMP.Do(ctx, "stop", nil, nil)
}

// move is the least a move can be. The guest is stopped before and after, to leave the machine to the other one.
func (p *peer) move(ctx context.Context, n int) (gap, total time.Duration, err error) {
	if err := p.on.QMP.Do(ctx, "cont", nil, nil); err != nil {
		return 0, 0, err
	}
	if err := p.guest.Memory(ctx, migrationMiB, migrationRate); err != nil {
		return 0, 0, err
	}
	begun := time.Now()
	to, err := p.guest.BareTarget(ctx, fmt.Sprintf("peer%d", n), p.guest.Shape)
	if err != nil {
		return 0, 0, err
	}
	if err := p.on.Move(ctx, to, &p.tls); err != nil {
		return 0, 0, err
	}
	if err := p.guest.Beating(ctx); err != nil {
		return 0, 0, err
	}
	total = time.Since(begun)
	gap, _ = p.guest.Beats.Gap(begun, time.Now())
	p.on.Close()
	p.on = to
	if _, err := p.guest.VerifyMemory(ctx); err != nil {
		return 0, 0, err
	}
	return gap, total, to.QMP.Do(ctx, "stop", nil, nil)
}

// migrationNIC swaps a guest's card for one of another model and back.
func (s *session) migrationNIC(ctx context.Context) error {
	runs := migrationRuns
	if s.Quick {
		runs = 2
	}
	l, err := lab.Open(ctx)
	if err != nil {
		return err
	}
	defer l.Close()
	g, err := l.Guest("swapped")
	if err != nil {
		return err
	}
	m, err := g.Bare(ctx, "swapped")
	if err != nil {
		return err
	}
	other := model.NIC{ID: "nic1", Model: "e1000", MAC: lab.SecondMAC, Network: lab.Network, Addr: "0x5"}
	if _, err := m.Agent.Augment(ctx, model.CanDriver+other.Model); err != nil {
		return err
	}
	s.note("swap a virtio card for an e1000 and back, %d times", runs)
	var there, back []float64
	for range runs {
		gap, err := g.SwapNIC(ctx, m, g.Shape.NICs[0], other)
		if err != nil {
			return err
		}
		there = append(there, gap.Seconds()*1000)
		if gap, err = g.SwapNIC(ctx, m, other, g.Shape.NICs[0]); err != nil {
			return err
		}
		back = append(back, gap.Seconds()*1000)
	}
	s.figures.Record("migration.nic_swap_gap", Figure{Value: Median(there), Unit: "ms", Goal: "<= 300", Peer: "virtio to e1000, heartbeats of 5 ms", N: runs})
	s.figures.Record("migration.nic_swap_back_gap", Figure{Value: Median(back), Unit: "ms", Goal: "<= 300", Peer: "e1000 to virtio", N: runs})
	return nil
}
