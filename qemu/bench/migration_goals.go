package bench

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/ratchetos/ratchet/core/config/strict"
	"github.com/ratchetos/ratchet/plugins/migration/model"
	"github.com/ratchetos/ratchet/plugins/migration/plan"
	"github.com/ratchetos/ratchet/plugins/migration/plan/plantest"
	"github.com/ratchetos/ratchet/plugins/migration/run"
	"github.com/ratchetos/ratchet/plugins/migration/schedule"
	"github.com/ratchetos/ratchet/qemu/lab"
	"github.com/ratchetos/ratchet/qemu/trial"
)

const (
	// budget is what a move may use of the link, bytes a second, and restless what a guest writes that cannot converge
	// under it, to so many MiB of its memory.
	budget      = 24 << 20
	restless    = budget * 16 / 10
	restlessMiB = 100
	// convergeLimit ends auto-converge, if it does not end by itself: the ratio is then at most what is shown.
	convergeLimit = 3 * time.Minute
)

// migrationConverge moves a guest that writes faster than may be sent: once by the runner, whose goal allows post-copy, and
// once by QEMU's own auto-converge under the same limit.
func (s *session) migrationConverge(ctx context.Context) error {
	runs := 5
	if s.Quick {
		runs = 1
	}
	r, err := trial.Open(ctx, trial.Options{})
	if err != nil {
		return err
	}
	defer r.Close()
	s.note("move a guest that does not converge by the runner and by auto-converge, %d times each", runs)
	var times, gaps, silences []float64
	for n := range runs {
		if err := r.Guest.Memory(ctx, restlessMiB, restless); err != nil {
			return err
		}
		p, err := r.Plan(ctx, model.VMType{}, model.Goal{Bandwidth: strict.Size(budget), AllowPostCopy: true})
		if err != nil {
			return err
		}
		ours, err := r.Move(ctx, p, nil)
		if err == nil && (ours.Outcome != run.Moved || !redirected(ours)) {
			err = fmt.Errorf("the move ended %s by %s (%q): %s", ours.Outcome, ours.Mode, ours.Why, ours.Problem)
		}
		if err != nil {
			return err
		}
		if err := r.Proof(ctx, false); err != nil {
			return err
		}
		peer, err := autoConverge(ctx, r.Lab, n)
		if err != nil {
			return fmt.Errorf("auto-converge: %w", err)
		}
		s.note("runner: silent for %v at the switch (stopped for %v), at most %v, of %v; auto-converge: %v, at most %v, of %v",
			ours.Switch, ours.Gap, ours.Silence, ours.Total, peer.gap, peer.silence, peer.total)
		times = append(times, ours.Total.Seconds()/peer.total.Seconds())
		gaps = append(gaps, ours.Switch.Seconds()/peer.gap.Seconds())
		silences = append(silences, ours.Silence.Seconds()/peer.silence.Seconds())
	}
	by := fmt.Sprintf("auto-converge, guest writes 1.6 x the budget to %d MiB", restlessMiB)
	s.figures.Record("migration.converge_time_ratio", Figure{Value: Median(times), Unit: "x", Goal: "<= 0.15", Peer: by, N: runs})
	s.figures.Record("migration.converge_gap_ratio", Figure{Value: Median(gaps), Unit: "x", Goal: "<= 0.5", Peer: by, N: runs})
	s.figures.Record("migration.converge_silence_ratio", Figure{Value: Median(silences), Unit: "x", Peer: "longest silence of the whole move, the start of dirty logging with it", N: runs})
	return nil
}

// redirected reports whether admission found, before the start, that pre-copy would not end. The move may end without post-copy
// all the same: what the guest has written in the one pass is sent at the speed of the rest first, and it may be little by then.
func redirected(r trial.Result) bool {
	return slices.ContainsFunc(r.Why, func(why string) bool {
		return strings.HasPrefix(why, string(schedule.ModePostCopy)+": about ")
	})
}

// converged is a move by auto-converge: how long it took, how long the guest was silent at the switch, and at most.
type converged struct{ total, gap, silence time.Duration }

// autoConverge is a bare QEMU's own way of moving such a guest.
func autoConverge(ctx context.Context, l *lab.Lab, n int) (c converged, err error) {
	g, err := l.Guest(fmt.Sprint("peer", n))
	if err != nil {
		return c, err
	}
	from, err := g.Bare(ctx, fmt.Sprint("ac-from", n))
	if err != nil {
		return c, err
	}
	defer from.Close()
	if err := g.Memory(ctx, restlessMiB, restless); err != nil {
		return c, err
	}
	to, err := g.BareTarget(ctx, fmt.Sprint("ac-to", n), g.Shape)
	if err != nil {
		return c, err
	}
	defer to.Close()
	socket := "unix:" + filepath.Join(l.Dir, fmt.Sprint("ac-", n))
	for _, do := range []struct {
		on      *lab.Machine
		command string
		args    map[string]any
	}{
		{from, "migrate-set-capabilities", map[string]any{"capabilities": []any{map[string]any{"capability": "auto-converge", "state": true}}}},
		{from, "migrate-set-parameters", map[string]any{"max-bandwidth": budget, "downtime-limit": model.DefaultGap.Milliseconds()}},
		{to, "migrate-incoming", map[string]any{"uri": socket}},
		{from, "migrate", map[string]any{"uri": socket}},
	} {
		if err := do.on.QMP.Do(ctx, do.command, do.args, nil); err != nil {
			return c, err
		}
	}
	begun := time.Now()
	ended := func() converged {
		silence, _ := g.Beats.Gap(begun, time.Now())
		return converged{time.Since(begun), silence, silence}
	}
	limited, cancel := context.WithTimeoutCause(ctx, convergeLimit, errStuck)
	defer cancel()
	for _, m := range []*lab.Machine{from, to} {
		err := completed(limited, m)
		if errors.Is(err, errStuck) {
			return ended(), nil // it never came to the switch
		}
		if err != nil {
			return c, err
		}
	}
	if err := to.QMP.Do(ctx, "cont", nil, nil); err != nil {
		return c, err
	}
	if err := g.Beating(ctx); err != nil {
		return c, err
	}
	c = ended()
	c.gap = g.Beats.Around(g.Runners.Latest())
	return c, nil
}

// errStuck ends an auto-converge that does not.
var errStuck = errors.New("it does not converge")

// completed waits until a migration has ended on this side.
func completed(ctx context.Context, m *lab.Machine) error {
	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()
	for {
		var q struct {
			Status string `json:"status"`
			Error  string `json:"error-desc"`
		}
		if err := m.QMP.Do(ctx, "query-migrate", nil, &q); err != nil {
			return errors.Join(context.Cause(ctx), err)
		}
		switch q.Status {
		case "completed":
			return nil
		case "failed", "cancelled":
			return fmt.Errorf("migration %s: %s", q.Status, q.Error)
		}
		select {
		case <-look.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// migrationAdmission compares what admission predicts with what moves take, and lets guests be moved that cannot converge.
func (s *session) migrationAdmission(ctx context.Context) error {
	rates := []int64{0, 2 << 20, 5 << 20, 8 << 20, 12 << 20, 40 << 20, 60 << 20}
	if s.Quick {
		rates = []int64{0, 8 << 20, 40 << 20}
	}
	r, err := trial.Open(ctx, trial.Options{})
	if err != nil {
		return err
	}
	defer r.Close()
	s.note("hold what admission predicts against %d moves", len(rates))
	var misses []float64
	hopeless, sent := 0, 0
	for _, rate := range rates {
		if err := r.Guest.Memory(ctx, migrationMiB, rate); err != nil {
			return err
		}
		p, err := r.Plan(ctx, model.VMType{}, model.Goal{Bandwidth: strict.Size(budget), AllowPostCopy: true})
		if err != nil {
			return err
		}
		res, err := r.Move(ctx, p, nil)
		if err == nil && res.Outcome != run.Moved {
			err = fmt.Errorf("the move ended %s: %s", res.Outcome, res.Problem)
		}
		if err != nil {
			return err
		}
		if err := r.Proof(ctx, false); err != nil {
			return err
		}
		if rate > budget {
			hopeless++
			if redirected(res) {
				sent++
			}
		}
		took := res.Took
		s.note("%d MB/s written: predicted %v, took %v by %s, %d MiB in %d passes", rate>>20, res.Predicted.Round(time.Millisecond), took.Round(time.Millisecond), res.Mode, res.Transferred>>20, res.Passes)
		misses = append(misses, 100*abs(res.Predicted.Seconds()-took.Seconds())/took.Seconds())
	}
	s.figures.Record("migration.admission_error", Figure{Value: Median(misses), Unit: "%", Goal: "<= 15", Peer: "time that the transfer took", N: len(misses)})
	s.figures.Record("migration.redirected", Figure{Value: 100 * float64(sent) / float64(max(1, hopeless)), Unit: "%", Goal: ">= 95", Peer: "moves that cannot converge, before their start", N: hopeless})
	return nil
}

// migrationSpec lets plans be made from inputs in which one thing is wrong, and destinations be held against a shape from which
// they differ in one thing. None may pass: QEMU itself accepts half of them.
func (s *session) migrationSpec(context.Context) error {
	tried, refused := 0, 0
	count := func(name, code string, refusals []plan.Refusal) {
		tried++
		if slices.ContainsFunc(refusals, func(r plan.Refusal) bool { return r.Code == code }) {
			refused++
			return
		}
		s.note("%s: not refused as %s: %v", name, code, refusals)
	}
	for _, w := range plantest.Inputs() {
		in := plantest.Input()
		w.Change(&in)
		_, refusals := plan.Make(in)
		count(w.Name, w.Code, refusals)
	}
	for _, w := range plantest.Shapes() {
		shape := plantest.Input().Shape
		w.Change(&shape)
		count(w.Name, w.Code, plan.Compare(plantest.Input().Shape, shape))
	}
	s.figures.Record("migration.wrong_spec_refused", Figure{Value: 100 * float64(refused) / float64(tried), Unit: "%", Goal: ">= 100", Peer: "one thing wrong in each, before a byte is sent", N: tried})
	return nil
}

func abs(v float64) float64 { return max(v, -v) }
