package supervise

import (
	"fmt"
	"time"
)

// spare is what there is of a second process.
type spare int

const (
	spareNone spare = iota
	spareComing
	spareUp
	spareDying
)

// Machine is the state of one plugin. Make it with New.
type Machine struct {
	policy Policy

	state    State
	message  string
	since    time.Time
	restarts int

	wanted  bool // is to run
	active  bool // there is an active process, or one on its way
	killed  bool // Kill was ordered for it
	refused bool

	failures     int       // in a row
	readyAt      time.Time // zero while not serving
	life         time.Time // last sign of life
	pet          time.Time // last Pet; zero while the watchdog is not armed
	retry        time.Time // Failed: next try
	limit        time.Time // Starting, Draining, killed: when patience ends
	spare        spare
	spareFails   int
	spareRetryAt time.Time
}

// New makes a Machine in state Absent.
func New(p Policy, now time.Time) *Machine {
	return &Machine{policy: p.WithDefaults(), since: now}
}

// State is the present state.
func (m *Machine) State() State { return m.state }

// Since is when the present state began.
func (m *Machine) Since() time.Time { return m.since }

// Message says why the state is what it is.
func (m *Machine) Message() string { return m.message }

// Restarts counts the processes that were started in place of one that failed or was
// restarted by an operator.
func (m *Machine) Restarts() int { return m.restarts }

// Wanted says whether the plugin is to run: after Stop another process follows.
func (m *Machine) Wanted() bool { return m.wanted }

// Refused says that it has failed for good: only Enable or Restart leads to another try, and where a killed process does
// not end, its end alone.
func (m *Machine) Refused() bool { return m.state == Failed && (m.refused || m.killed) }

// Deadline is when the Machine wants a Tick; zero means never.
func (m *Machine) Deadline() time.Time {
	var d time.Time
	earliest := func(t time.Time) {
		if !t.IsZero() && (d.IsZero() || t.Before(d)) {
			d = t
		}
	}
	switch {
	case m.state == Isolated:
	case m.killed:
		earliest(m.limit)
	case m.state.Serving():
		earliest(m.life.Add(m.policy.Silence))
		if !m.pet.IsZero() {
			earliest(m.pet.Add(m.policy.Watchdog))
		}
	case m.state == Starting || m.state == Draining:
		earliest(m.limit)
	case m.state == Failed && m.wanted && !m.refused:
		earliest(m.retry)
	}
	if m.wantsSpare() {
		earliest(m.spareRetryAt)
	}
	return d
}

// Step takes one input and returns the actions it leads to.
func (m *Machine) Step(now time.Time, in Input) []Action {
	var acts []Action
	do := func(a ...Action) { acts = append(acts, a...) }
	if m.state == Isolated && in.Kind != Exited && in.Kind != SpareDown {
		return nil // final: only the end of processes is still noted
	}
	switch in.Kind {
	case Enable:
		do(m.enable(now)...)
	case Restart:
		do(m.restart(now)...)
	case Disable:
		do(m.halt(now, Stopped, in.Why)...)
	case Isolate:
		do(m.halt(now, Isolated, in.Why)...)
	case Refuse:
		m.refused = true
		do(m.dropSpare()...)
		if m.active {
			m.message = in.Why
			do(m.kill(now)...)
		} else {
			m.to(now, Failed, in.Why)
		}
	case Started:
		if !m.active || m.killed || m.state == Draining {
			break
		}
		m.readyAt, m.life = now, now
		if t := now.Add(m.policy.SpareAfter); t.After(m.spareRetryAt) {
			m.spareRetryAt = t
		}
		m.to(now, Ready, "")
	case Healthy, Unwell, Beat, Broken:
		do(m.alive(now, in)...)
	case Pet:
		if m.active && !m.killed {
			m.pet = now
		}
	case Exited:
		do(m.exited(now, in.Why)...)
	case SpareUp:
		if m.spare == spareComing {
			m.spare, m.spareFails = spareUp, 0
		}
	case SpareDown:
		if m.spare == spareComing || m.spare == spareUp {
			m.spareFails++
			// Never at once: a spare that cannot live must not eat the box.
			m.spareRetryAt = now.Add(m.policy.Delay(m.spareFails + m.policy.Burst))
		}
		m.spare = spareNone
	case Tick:
		do(m.tick(now)...)
	}
	if m.wantsSpare() && !now.Before(m.spareRetryAt) {
		m.spare = spareComing
		do(SpawnSpare)
	}
	return acts
}

// enable has the plugin run, with the configuration that it has now.
func (m *Machine) enable(now time.Time) []Action {
	m.wanted, m.refused = true, false
	acts := m.dropSpare() // it has the configuration from before
	switch m.state {
	case Absent, Stopped, Failed:
		if !m.active {
			m.failures = 0
			m.to(now, Verified, "")
			acts = append(acts, m.launch(now))
		}
	}
	return acts
}

// restart has a new process take the place of the one that runs, if any is to.
func (m *Machine) restart(now time.Time) []Action {
	if !m.wanted {
		return nil
	}
	m.refused, m.failures = false, 0
	acts := m.dropSpare()
	switch {
	case !m.active:
		m.restarts++
		acts = append(acts, m.launch(now))
	case m.killed: // the next one comes when it is gone
	case m.state != Draining:
		m.to(now, Draining, "restart asked for")
		m.limit = now.Add(m.policy.StopTimeout)
		acts = append(acts, Stop)
	}
	return acts
}

// alive notes a sign of life and what it says.
func (m *Machine) alive(now time.Time, in Input) []Action {
	if !m.state.Serving() || m.killed {
		return nil
	}
	m.life = now
	switch in.Kind {
	case Healthy:
		if m.state != Ready {
			m.to(now, Ready, in.Why)
		}
		m.message = in.Why
	case Unwell:
		if m.state != Degraded {
			m.to(now, Degraded, in.Why)
		}
		m.message = in.Why
	case Broken:
		m.message = in.Why
		return m.kill(now)
	}
	return nil
}

// exited decides what follows the end of the active process.
func (m *Machine) exited(now time.Time, why string) []Action {
	if !m.active {
		return nil
	}
	served := !m.readyAt.IsZero() && now.Sub(m.readyAt) >= m.policy.ResetAfter
	if m.killed && m.message != "" {
		why = m.message + "; " + why // what the kill was for
	}
	m.active, m.killed, m.readyAt, m.pet = false, false, time.Time{}, time.Time{}
	switch {
	case !m.wanted:
		if m.state != Isolated {
			m.to(now, Stopped, "")
		}
		return nil
	case m.refused:
		m.to(now, Failed, m.message)
		return nil
	case m.state == Draining: // an ordered restart
		m.restarts++
		return []Action{m.launch(now)}
	}
	if served {
		m.failures = 0
	}
	m.failures++
	delay := m.policy.Delay(m.failures)
	if delay == 0 {
		m.restarts++
		a := m.launch(now)
		m.message = why
		return []Action{a}
	}
	m.retry = now.Add(delay)
	m.to(now, Failed, fmt.Sprintf("%s; next try in %s", why, delay))
	return nil
}

// tick acts on the deadline that has come, if it has.
func (m *Machine) tick(now time.Time) []Action {
	switch {
	case m.killed:
		if !m.limit.IsZero() && !now.Before(m.limit) {
			m.giveUp(now)
		}
	case m.state.Serving() && !now.Before(m.life.Add(m.policy.Silence)):
		m.message = fmt.Sprintf("silent for %s", m.policy.Silence)
		return m.kill(now)
	case m.state.Serving() && !m.pet.IsZero() && !now.Before(m.pet.Add(m.policy.Watchdog)):
		m.message = fmt.Sprintf("watchdog not petted for %s", m.policy.Watchdog)
		return m.kill(now)
	case m.state == Starting && !now.Before(m.limit):
		m.message = fmt.Sprintf("not ready within %s", m.policy.StartTimeout)
		return m.kill(now)
	case m.state == Draining && !now.Before(m.limit):
		m.message = fmt.Sprintf("did not stop within %s", m.policy.StopTimeout)
		return m.kill(now)
	case m.state == Failed && m.wanted && !m.refused && !m.active && !now.Before(m.retry):
		m.restarts++
		return []Action{m.launch(now)}
	}
	return nil
}

// launch brings the next process to serve: the spare if there is one.
func (m *Machine) launch(now time.Time) Action {
	m.active = true
	m.limit = now.Add(m.policy.StartTimeout)
	m.to(now, Starting, "")
	if m.spare == spareUp {
		m.spare = spareNone
		m.spareRetryAt = time.Time{}
		return Promote
	}
	return Spawn
}

// halt stops what runs, for good.
func (m *Machine) halt(now time.Time, end State, why string) []Action {
	m.wanted = false
	acts := m.dropSpare()
	switch {
	case !m.active:
		if end == Isolated || m.state != Absent {
			m.to(now, end, why)
		}
	case end == Isolated: // hardware is not drained, it is taken away
		m.to(now, Isolated, why)
		acts = append(acts, m.kill(now)...)
	case m.state != Draining:
		m.to(now, Draining, why)
		m.limit = now.Add(m.policy.StopTimeout)
		if !m.killed {
			acts = append(acts, Stop)
		}
	}
	return acts
}

func (m *Machine) kill(now time.Time) []Action {
	if !m.active || m.killed {
		return nil
	}
	m.killed = true
	m.limit = now.Add(m.policy.StopTimeout)
	return []Action{Kill}
}

// giveUp shows that a killed process does not end: one that waits in the kernel for a disk that is dead may never do. No
// other is started beside it, since it holds what that would need.
func (m *Machine) giveUp(now time.Time) {
	m.limit = time.Time{}
	end := Stopped
	if m.wanted {
		end = Failed
	}
	m.to(now, end, m.message+"; it was killed and does not end, which a restart of the box may mend")
}

func (m *Machine) dropSpare() []Action {
	if m.spare != spareComing && m.spare != spareUp {
		return nil
	}
	m.spare = spareDying
	return []Action{KillSpare}
}

// wantsSpare says whether a spare is to be started, now or at spareRetryAt.
func (m *Machine) wantsSpare() bool {
	return m.policy.Spare && m.spare == spareNone && m.wanted && !m.killed && m.state.Serving()
}

func (m *Machine) to(now time.Time, s State, why string) {
	if m.state != s {
		m.since = now
	}
	m.state, m.message = s, why
}
