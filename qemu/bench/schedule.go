package bench

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	forecasts "github.com/ratchetos/ratchet/plugins/migration/forecast/trial"
	"github.com/ratchetos/ratchet/plugins/migration/schedule/trial"
)

// seriesDir has the loads that forecasts are tried on; the protocol is in the package comment beside it.
var seriesDir = filepath.Join("plugins", "migration", "forecast", "trial", "series")

// seasonal are the series on which forecasting can pay; on the others it must do no harm.
var seasonal = []string{"nyc_taxi", "cpu_utilization_asg_misconfiguration", "elb_request_count_8c0756", "ec2_cpu_utilization_77c1ca"}

const (
	scheduleBatches = 40
	batchVMs        = 8
	// hypervisorNoise is by how much a simulated hypervisor is off its limit.
	hypervisorNoise = .03
)

// schedule measures what waiting by the forecast saves, and what the planner and the budgets make of many moves at once.
func (s *session) schedule(ctx context.Context) error {
	if err := s.scheduleForecast(ctx); err != nil {
		return err
	}
	return s.scheduleBatch(ctx)
}

func (s *session) scheduleForecast(ctx context.Context) error {
	dir := seriesDir
	if s.Series != "" {
		dir = s.Series
	}
	all, err := forecasts.ReadAll(dir)
	if err != nil {
		return err
	}
	options := forecasts.Options{}
	if s.Quick {
		options.Requests = 30
	}
	s.note("forecasts on %d series of %s", len(all), dir)
	outcomes := make([]forecasts.Outcome, len(all))
	tried := make([]bool, len(all))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.NumCPU())
	for i, series := range all {
		g.Go(func() error {
			if ctx.Err() == nil {
				outcomes[i], tried[i] = forecasts.Run(series, options)
			}
			return ctx.Err()
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	var against, regrets, coverages []float64
	under, slots := 0, 0
	for i, o := range outcomes {
		if !tried[i] {
			s.note("%s is too short", all[i].Name)
			continue
		}
		s.note("%-38s %.3f x clairvoyant (at once %.3f), %.3f x at once, coverage %.3f, %d of %d let wait", o.Name, o.Regret(), o.Now/o.Clairvoyant, o.AgainstNow(), o.Coverage(), o.Skilled, o.Requests)
		against, coverages = append(against, o.AgainstNow()), append(coverages, o.Coverage())
		under, slots = under+o.Under, slots+o.Slots
		if slices.Contains(seasonal, o.Name) || s.Series != "" {
			regrets = append(regrets, math.Log(o.Regret()))
		}
	}
	if len(against) == 0 {
		return fmt.Errorf("no series of %s is long enough", dir)
	}
	n := len(against)
	figures := []struct {
		name string
		Figure
	}{
		{"forecast_regret", Figure{Value: math.Exp(mean(regrets)), Goal: "<= 1.06", Peer: "the clairvoyant start", N: len(regrets)}},
		{"forecast_against_now_mean", Figure{Value: mean(against), Goal: "<= 1.00", Peer: "starting at once", N: n}},
		{"forecast_against_now_worst", Figure{Value: slices.Max(against), Goal: "<= 1.05", Peer: "starting at once", N: n}},
		{"forecast_coverage", Figure{Value: float64(under) / float64(slots), Goal: "0.85 to 0.95", Peer: "0.9 quantile", N: n}},
		{"forecast_coverage_least", Figure{Value: slices.Min(coverages), Goal: ">= 0.80", Peer: "0.9 quantile", N: n}},
		{"forecast_coverage_most", Figure{Value: slices.Max(coverages), Goal: "<= 0.97", Peer: "0.9 quantile", N: n}},
	}
	for _, f := range figures {
		f.Unit = "x"
		s.figures.Record("schedule."+f.name, f.Figure)
	}
	return nil
}

// scheduleBatch runs batches of eight VMs over two links on a simulated clock, half of them joined by one of high priority.
func (s *session) scheduleBatch(ctx context.Context) error {
	batches := scheduleBatches
	if s.Quick {
		batches = 4
	}
	s.note("%d batches of %d VMs over two links against the best of all orders", batches, batchVMs)
	epoch := time.Date(2026, 3, 2, 20, 0, 0, 0, time.UTC)
	makespans, peaks, urgent := make([]float64, batches), make([]float64, batches), make([]float64, batches)
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.NumCPU())
	for i := range batches {
		g.Go(func() error {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			seed := uint64(i)
			rng := rand.New(rand.NewPCG(seed, batchVMs))
			lanes := trial.Lanes(rng)
			jobs := trial.Jobs(rng, batchVMs, epoch)
			r, err := trial.Run(lanes, jobs, epoch, hypervisorNoise, seed)
			if err != nil {
				return err
			}
			makespans[i], peaks[i] = r.Makespan.Seconds()/trial.Best(lanes, jobs).Seconds(), r.Peak

			one := trial.Jobs(rng, 1, epoch.Add(time.Duration(1+rng.IntN(20))*time.Second))
			one[0].ID, one[0].VM, one[0].Priority = "urgent", "urgent", 10
			alone, err := trial.Run(lanes, one, epoch, hypervisorNoise, seed)
			if err != nil {
				return err
			}
			among, err := trial.Run(lanes, append(jobs, one...), epoch, hypervisorNoise, seed)
			if err != nil {
				return err
			}
			urgent[i] = among.Took["urgent"].Seconds() / alone.Took["urgent"].Seconds()
			peaks[i] = max(peaks[i], among.Peak)
			if n := r.Unfinished + alone.Unfinished + among.Unfinished; n > 0 {
				return fmt.Errorf("batch %d: %d moves did not end", i, n)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	peer := fmt.Sprintf("the best order by brute force, %d VMs, 2 links, simulated", batchVMs)
	s.figures.Record("schedule.makespan_mean", Figure{Value: mean(makespans), Unit: "x", Peer: peer, N: batches})
	s.figures.Record("schedule.makespan_worst", Figure{Value: slices.Max(makespans), Unit: "x", Goal: "<= 1.10", Peer: peer, N: batches})
	s.figures.Record("schedule.budget_peak", Figure{Value: slices.Max(peaks), Unit: "x", Goal: "<= 1.05", Peer: "the link's budget, any second", N: 2 * batches})
	s.figures.Record("schedule.priority_worst", Figure{Value: slices.Max(urgent), Unit: "x", Goal: "<= 1.20", Peer: "its time alone", N: batches})
	return nil
}
