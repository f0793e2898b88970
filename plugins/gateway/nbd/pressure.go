package nbd

import (
	"sync/atomic"
	"time"
)

// pressure finds the clients that hold memory and do nothing about it while requests wait for some: that do not take
// their replies, or do not send the data of a WRITE.
type pressure struct {
	// sessions holds how far each connection was at the last look, rests the same for a server that is stopped. They are
	// under the mutex of run.
	sessions map[*session]progress
	rests    map[*session]progress
	timer    *time.Timer // nil while there is memory
	spell    int         // of want, counted, so that a late timer knows that its own is over
	hurried  *time.Timer // nil unless Serve has been stopped and waits
}

// motion counts the steps of something that takes a while, again and again.
type motion struct {
	busy  atomic.Bool   // it is under way
	steps atomic.Uint64 // that have ended
}

func (m *motion) begin() { m.busy.Store(true) }
func (m *motion) step()  { m.steps.Add(1) }

func (m *motion) end() {
	m.step()
	m.busy.Store(false)
}

// moment is a motion at one time.
type moment struct {
	steps uint64
	busy  bool
}

// look takes the count first: two equal answers with busy then speak of one and the same step.
func (m *motion) look() moment {
	n := m.steps.Load()
	return moment{n, m.busy.Load()}
}

// stuck reports whether nothing has moved from m to now. One that is busy only now may have got its memory from the one
// that has just been closed.
func (m moment) stuck(now moment) bool { return m.busy && now == m }

// progress is how far a client is with taking replies and with sending data.
type progress struct{ replies, payload moment }

func (s *session) look() progress { return progress{s.out.moved.look(), s.payload.look()} }

// idle says what a client does not do since the last look that others wait for, or nothing.
func (p progress) idle(now progress) string {
	switch {
	case p.replies.stuck(now.replies):
		return "does not take its replies"
	case p.payload.stuck(now.payload):
		return "does not send the data of its write"
	}
	return ""
}

// watch and unwatch bring a connection in and out.
func (r *run) watch(s *session) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sessions[s] = s.look()
}

func (r *run) unwatch(s *session) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.sessions, s)
	delete(r.rests, s)
}

// press begins to look for those clients, or ends it.
func (r *run) press(on bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !on {
		r.timer.Stop()
		r.timer = nil
		return
	}
	every := orDefault(r.server.TakeReplies, 30*time.Second)
	r.log.Warn("NBD requests wait for memory", "limit", r.memory.max, "clients_may_rest", every)
	for s := range r.sessions {
		r.sessions[s] = s.look()
	}
	r.spell++
	spell := r.spell
	r.timer = time.AfterFunc(every, func() { r.reap(spell, every) })
}

// reap drops the connections that have been sending or receiving one and the same thing since the last look, and with
// them what is kept for their clients.
func (r *run) reap(spell int, every time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.timer == nil || r.spell != spell {
		return // there is memory again
	}
	for s, last := range r.sessions {
		now := s.look()
		if what := last.idle(now); what != "" {
			r.log.Warn("NBD client holds memory that others wait for, closing", "remote", s.link.remote, "client", what)
			s.link.end()
		}
		r.sessions[s] = now
	}
	r.timer.Reset(every)
}

// hurry begins to drop the connections that keep a server that is stopped waiting, because their client does not take its
// replies or a request takes long.
func (r *run) hurry(every time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.rests = make(map[*session]progress, len(r.sessions))
	for s := range r.sessions {
		r.rests[s] = s.look()
	}
	r.hurried = time.AfterFunc(every, func() { r.dropIdle(every) })
}

// relax ends that. No connection is left.
func (r *run) relax() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.hurried.Stop()
	r.hurried = nil
}

// dropIdle closes connections on which nothing has moved since the last look, and those in their handshake.
func (r *run) dropIdle(every time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.hurried == nil {
		return // all are gone
	}
	serving := make(map[*link]bool)
	for s := range r.sessions {
		now := s.look()
		last, known := r.rests[s]
		serving[s.link] = !known || now != last
		r.rests[s] = now
	}
	for k := range r.conns {
		if !serving[k] {
			r.log.Info("NBD client keeps a server waiting that stops, closing", "remote", k.remote)
			k.end()
		}
	}
	r.hurried.Reset(every)
}
