package pipeline

import "time"

// MethodShow is the method of its management service by which a plugin shows its pipelines: no request, a Snapshot as
// JSON. ratchetctl finds it in the plugin's description.
const MethodShow = "pipelines.show"

// Snapshot is what a scheduler and its pipelines are doing.
type Snapshot struct {
	Workers   int        `json:"workers"`
	Busy      int        `json:"busy"`
	Memory    int64      `json:"memory_bytes,omitempty"` // 0 is without limit
	Held      int64      `json:"held_bytes"`
	Bandwidth int64      `json:"bandwidth_bytes_per_second,omitempty"` // 0 is without limit
	Pipelines []Activity `json:"pipelines"`
}

// Activity is one running pipeline.
type Activity struct {
	Name      string          `json:"name"`
	Weight    float64         `json:"weight"`
	Draining  bool            `json:"draining,omitempty"`
	Held      int64           `json:"held_bytes"`
	Memory    int64           `json:"memory_bytes,omitempty"`               // granted
	Bandwidth int64           `json:"bandwidth_bytes_per_second,omitempty"` // granted
	Stages    []StageActivity `json:"stages"`
}

// StageActivity is one stage of it, in the order they were built.
type StageActivity struct {
	Name    string  `json:"name"`
	Waits   bool    `json:"waits,omitempty"`
	Queued  int     `json:"queued"`
	Queue   int     `json:"queue"`
	Running int     `json:"running"`
	Limit   int     `json:"limit,omitempty"`           // calls at once; 0 is without limit
	Granted float64 `json:"granted_workers,omitempty"` // of a computing stage
	Items   uint64  `json:"items"`
	Bytes   uint64  `json:"bytes"`
	Rate    float64 `json:"items_per_second"` // lately
	// Busy is the time of all calls, less what a source was idle (Awaited); Waited that of all items in the queue before it.
	Busy   time.Duration `json:"busy_ns"`
	Waited time.Duration `json:"waited_ns"`
}

// Snapshot is taken under the lock: it is consistent.
func (s *Scheduler) Snapshot() Snapshot {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := Snapshot{
		Workers: s.options.Workers, Busy: s.fair.Busy, Memory: s.options.Memory, Held: s.held, Bandwidth: s.options.Bandwidth,
		Pipelines: []Activity{},
	}
	idle := s.timer == nil // rates are those of the time before
	for _, p := range s.pipelines {
		a := Activity{
			Name: p.name, Weight: p.options.Weight, Draining: p.draining, Held: p.held,
			Memory: int64(p.member.Grant.Memory), Bandwidth: int64(p.member.Grant.Bandwidth),
		}
		if a.Weight <= 0 {
			a.Weight = 1
		}
		for k, n := range p.nodes {
			st := StageActivity{
				Name: n.options.Name, Waits: n.options.Waits, Queued: n.queued(), Running: n.running, Limit: n.options.Limit,
				Granted: p.member.Grant.Workers[k],
				Items:   n.items, Bytes: n.bytes, Rate: n.rate, Busy: n.busy, Waited: n.waited,
			}
			if !n.source || n.pass != nil {
				st.Queue = n.options.Queue
			}
			if idle {
				st.Rate = 0
			}
			a.Stages = append(a.Stages, st)
		}
		out.Pipelines = append(out.Pipelines, a)
	}
	return out
}
