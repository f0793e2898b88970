package sim

import (
	"time"

	"github.com/ratchetos/ratchet/core/pipeline/share"
)

// Result of a run.
type Result struct {
	Done []float64 // items through, by pipeline
	Used []float64 // worker seconds, by pipeline
	Sent []float64 // bytes, by pipeline
	// Busy is the part of all workers' time that they worked.
	Busy float64
}

// planEvery is as in package pipeline.
const planEvery = 100 * time.Millisecond

// machine is a run in progress.
type machine struct {
	w      *Workload
	split  *Split // nil for a scheduler
	now    time.Duration
	events events
	fair   share.Dispatcher
	lines  []*line
	held   float64
	wake   time.Duration // the next token is looked for
	plan   share.Plan
	result Result
}

// line is a pipeline in the run.
type line struct {
	member share.Member
	held   float64
	cap    float64 // of memory, in a fixed split
	stages []*stage
}

// stage of a line. Its queue is a number: items are all alike but for their cost.
type stage struct {
	queue, running, limit, begun int
	items                        int // since the last plan
	busy                         float64
	cost                         share.Cost
}

// Run does the workload with a scheduler, or with a fixed split of the resources.
func Run(w Workload, split *Split) Result {
	if w.Queue == 0 {
		w.Queue = 16
	}
	w.Phases = max(1, w.Phases)
	n := len(w.Pipelines)
	m := &machine{w: &w, split: split, result: Result{Done: make([]float64, n), Used: make([]float64, n), Sent: make([]float64, n)}}
	m.fair.Workers = w.Workers
	root := share.NewBucket(nil)
	if split == nil {
		root.Set(0, w.Bandwidth)
	}
	for i := range w.Pipelines {
		m.add(i, root)
	}
	m.allocate()
	if split == nil {
		m.at(planEvery, event{plan: true})
	}
	m.dispatch()
	for len(m.events) > 0 && m.events[0].at < w.Length {
		e := m.events.pop()
		m.now = e.at
		switch {
		case e.plan:
			m.measure()
			m.allocate()
			m.at(m.now+planEvery, event{plan: true})
		case e.wake && e.at != m.wake:
			continue // another one came before it
		case !e.wake:
			m.end(e)
		}
		m.dispatch()
	}
	used := 0.0
	for _, u := range m.result.Used {
		used += u
	}
	m.result.Busy = used / (float64(w.Workers) * w.Length.Seconds())
	return m.result
}

func (m *machine) add(i int, root *share.Bucket) {
	p := &m.w.Pipelines[i]
	l := &line{member: share.Member{Bucket: share.NewBucket(root)}}
	for k := range p.Stages {
		s := &stage{limit: p.Stages[k].Limit}
		if s.limit == 0 {
			s.limit = m.w.Workers
		}
		if m.split != nil && !p.Stages[k].Waits {
			s.limit = m.split.Workers[i][k]
		}
		l.stages = append(l.stages, s)
		l.member.Seats = append(l.member.Seats, &share.Seat{
			Waits: p.Stages[k].Waits, Sends: p.Stages[k].Sends, Head: func() float64 { return p.Bytes },
			Runnable: func(borrow bool) bool { return m.runnable(l, k, borrow) },
		})
	}
	if m.split != nil {
		l.cap = m.split.Memory[i] * m.w.Memory
		l.member.Bucket.Set(0, m.split.Bandwidth[i]*m.w.Bandwidth)
	}
	m.lines = append(m.lines, l)
	m.fair.Members = append(m.fair.Members, &l.member)
}

// runnable is what package pipeline asks of its nodes.
func (m *machine) runnable(l *line, k int, borrow bool) bool {
	s := l.stages[k]
	if s.running >= s.limit || k > 0 && s.queue == 0 {
		return false
	}
	if k+1 < len(l.stages) && l.stages[k+1].queue+s.running >= m.w.Queue {
		return false
	}
	if k > 0 || m.w.Memory == 0 {
		return true
	}
	if m.split != nil {
		return l.held == 0 || l.held < l.cap
	}
	return share.Credit{Held: l.held, Grant: l.member.Grant.Memory, All: m.held, Total: m.w.Memory}.Admits(borrow)
}

func (m *machine) dispatch() {
	for {
		c, again, ok := m.fair.Next(m.now)
		if !ok {
			// One wake-up is enough: when it comes, it is asked again.
			if again > 0 && (m.wake <= m.now || again < m.wake) {
				m.wake = again
				m.at(again, event{wake: true})
			}
			return
		}
		l := m.lines[c.Member]
		s := l.stages[c.Seat]
		phase := int(m.now * time.Duration(m.w.Phases) / m.w.Length)
		cost := m.w.cost(c.Member, c.Seat, s.begun, phase)
		s.begun++
		s.running++
		if c.Seat > 0 {
			s.queue--
		} else {
			l.held += m.w.Pipelines[c.Member].Bytes
			m.held += m.w.Pipelines[c.Member].Bytes
		}
		expected := s.cost.Seconds()
		if !l.member.Seats[c.Seat].Waits {
			m.fair.Began(&l.member, c.Seat, expected)
		}
		m.at(m.now+time.Duration(cost*float64(time.Second)), event{choice: c, cost: cost, expected: expected})
	}
}

// end is that of a call.
func (m *machine) end(e event) {
	i, k := e.choice.Member, e.choice.Seat
	l := m.lines[i]
	s := l.stages[k]
	s.running--
	s.items++
	s.busy += e.cost
	if !l.member.Seats[k].Waits {
		m.fair.Ended(&l.member, k, e.cost-e.expected)
		m.result.Used[i] += e.cost
	}
	if l.member.Seats[k].Sends {
		m.result.Sent[i] += m.w.Pipelines[i].Bytes
	}
	if k+1 < len(l.stages) {
		l.stages[k+1].queue++
		return
	}
	m.result.Done[i]++
	l.held -= m.w.Pipelines[i].Bytes
	m.held -= m.w.Pipelines[i].Bytes
}

func (m *machine) measure() {
	for _, l := range m.lines {
		for _, s := range l.stages {
			s.cost.Add(s.items, s.busy)
			s.items, s.busy = 0, 0
		}
	}
}

func (m *machine) allocate() {
	demands := make([]share.Demand, len(m.lines))
	for i, l := range m.lines {
		p := &m.w.Pipelines[i]
		d := share.Demand{Weight: p.Weight, Bytes: p.Bytes}
		for k, s := range l.stages {
			st := share.Stage{Seconds: s.cost.Seconds(), Waits: p.Stages[k].Waits, Limit: p.Stages[k].Limit, In: m.fill(s)}
			if k == 0 {
				st.In = 1
			}
			if k+1 < len(l.stages) {
				st.Out = m.fill(l.stages[k+1])
			}
			if p.Stages[k].Sends {
				d.Send = p.Bytes
			}
			d.Stages = append(d.Stages, st)
		}
		demands[i] = d
	}
	m.plan = share.Allocate(share.Capacity{Workers: float64(m.w.Workers), Memory: m.w.Memory, Bandwidth: m.w.Bandwidth}, demands, m.plan)
	for i, l := range m.lines {
		m.fair.Regrant(&l.member, m.plan.Grants[i])
	}
}

func (m *machine) fill(s *stage) float64 { return float64(s.queue) / float64(m.w.Queue) }

// event is the end of a call, a new plan, or a token.
type event struct {
	at             time.Duration
	choice         share.Choice
	cost, expected float64
	plan, wake     bool
}

func (m *machine) at(t time.Duration, e event) {
	e.at = t
	m.events.push(e)
}
