package trial

import (
	"math/rand/v2"
	"slices"
	"time"

	"github.com/ratchetos/ratchet/plugins/migration/schedule"
	"github.com/ratchetos/ratchet/plugins/migration/schedule/budget"
)

// Result of a run.
type Result struct {
	Makespan time.Duration
	// Took is from when a job was submitted until it was done.
	Took map[string]time.Duration
	// Peak is the most bytes that a link carried in any second, as part of its budget.
	Peak float64
	// Unfinished jobs, if the run was cut off.
	Unfinished int
}

const (
	// slice is the time between two looks of a hypervisor at its limit, as QEMU's is.
	slice = 100 * time.Millisecond
	// late is how long a limit takes to be in force.
	late = slice
	// gap is how long a guest may stand still.
	gap = 250 * time.Millisecond
	// longest bounds a run.
	longest = 2 * time.Hour
	// plans is how often jobs are planned anew, beside when one comes, ends or is due.
	plans = 5 * time.Second
)

// vm is a move under way.
type vm struct {
	schedule.Job
	left  float64 // bytes of this pass
	sent  uint64
	limit float64
	next  float64 // the limit that is on its way
	due   time.Duration
	dirty float64 // written during this pass
	links []string
}

// Run simulates jobs, each submitted at its Submitted less epoch, over lanes. A hypervisor's rate is off its limit by up to
// noise. All lanes are without other load.
func Run(lanes []schedule.Lane, jobs []schedule.Job, epoch time.Time, noise float64, seed uint64) (Result, error) {
	engine, err := schedule.NewEngine(nil)
	if err != nil {
		return Result{}, err
	}
	rng := rand.New(rand.NewPCG(seed, 1))
	r := Result{Took: make(map[string]time.Duration)}
	var links []budget.Link
	carried := make(map[string][]float64) // by link and slice
	for _, l := range lanes {
		links = append(links, budget.Link{Name: l.Name, Rate: l.Budget})
	}
	var control budget.Controller
	var running []*vm
	jobs = slices.Clone(jobs)
	waiting := len(jobs)
	fresh := true
	for t := time.Duration(0); t < longest && (waiting > 0 || len(running) > 0); t += slice {
		now := epoch.Add(t)
		for i := range jobs {
			if jobs[i].ID != "" && !jobs[i].Submitted.After(now) {
				if err := engine.Submit(jobs[i], now); err != nil {
					return r, err
				}
				jobs[i].ID, fresh = "", true
			}
		}
		if fresh || t%plans == 0 || len(engine.Due(now)) > 0 {
			for _, v := range running {
				rest := schedule.Load{Bytes: uint64(v.left), Dirty: v.Load.Dirty, WorkingSet: v.Load.WorkingSet}
				engine.Progress(v.ID, now.Add(schedule.PreCopy(rest, schedule.Constant(max(v.limit, 1)), gap).Total))
			}
			engine.Plan(now, lanes, nil)
			fresh = false
		}
		for _, d := range engine.Due(now) {
			engine.Begin(d.ID, now)
			running = append(running, &vm{Job: d.Job, left: float64(d.Load.Bytes), links: d.Links})
			waiting--
		}
		steer(&control, t, links, running)
		for _, name := range names(lanes) {
			carried[name] = append(carried[name], 0)
		}
		running = slices.DeleteFunc(running, func(v *vm) bool {
			n := v.step(1 + noise*(2*rng.Float64()-1))
			for _, name := range v.links {
				carried[name][len(carried[name])-1] += n
			}
			if v.left > 0 {
				return false
			}
			r.Took[v.ID] = now.Add(slice).Sub(v.Submitted)
			r.Makespan = max(r.Makespan, t+slice)
			engine.Remove(v.ID)
			fresh = true
			return true
		})
	}
	r.Unfinished = waiting + len(running)
	for _, l := range lanes {
		r.Peak = max(r.Peak, peak(carried[l.Name])/l.Budget)
	}
	return r, nil
}

// steer asks the controller for limits, which are in force a little later.
func steer(c *budget.Controller, t time.Duration, links []budget.Link, running []*vm) {
	var transfers []budget.Transfer
	for _, v := range running {
		if v.due > 0 && t >= v.due {
			v.limit, v.due = v.next, 0
			c.Done(budget.Limit{ID: v.ID, Rate: v.limit})
		}
		transfers = append(transfers, budget.Transfer{ID: v.ID, Links: v.links, Priority: v.Priority, Most: v.Rate, Sent: v.sent})
	}
	for _, l := range c.Step(t, links, transfers) {
		for _, v := range running {
			if v.ID == l.ID {
				v.next, v.due = l.Rate, t+late
			}
		}
	}
}

// step sends for one slice and returns how much.
func (v *vm) step(off float64) (n float64) {
	n = min(v.left, v.limit*off*slice.Seconds())
	v.left -= n
	v.sent += uint64(n)
	set := float64(v.Load.WorkingSet)
	if set == 0 {
		set = float64(v.Load.Bytes)
	}
	v.dirty = min(set, v.dirty+v.Load.Dirty*slice.Seconds())
	if v.left <= 0 && v.dirty > v.limit*gap.Seconds() {
		v.left, v.dirty = v.dirty, 0 // another pass
	}
	return n
}

func names(lanes []schedule.Lane) (list []string) {
	for _, l := range lanes {
		list = append(list, l.Name)
	}
	return list
}

// peak is the most in any second.
func peak(slices []float64) (most float64) {
	const second = int(time.Second / slice)
	sum := 0.0
	for i, n := range slices {
		if sum += n; i >= second {
			sum -= slices[i-second]
		}
		most = max(most, sum)
	}
	return most
}
