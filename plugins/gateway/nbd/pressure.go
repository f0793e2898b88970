package nbd

import "time"

// pressure finds the clients that do not take their replies while requests wait for memory.
type pressure struct {
	// sessions holds each connection's sending at the last look. It is under the mutex of run.
	sessions map[*session]sending
	timer    *time.Timer // nil while there is memory
	spell    int         // of want, counted, so that a late timer knows that its own is over
}

// sending is how many sends of a connection have ended, and whether one more is under way.
type sending struct {
	ended uint64
	busy  bool
}

// look takes the count first: two equal answers with busy then speak of one and the same send.
func (s *session) look() sending {
	n := s.out.sends.Load()
	return sending{n, s.out.busy.Load()}
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
	r.log.Warn("NBD requests wait for memory", "limit", r.memory.max, "clients_may_take", every)
	for s := range r.sessions {
		r.sessions[s] = s.look()
	}
	r.spell++
	spell := r.spell
	r.timer = time.AfterFunc(every, func() { r.reap(spell, every) })
}

// reap drops the connections that have been sending one and the same thing since the last look, and with them what is
// kept for their clients.
func (r *run) reap(spell int, every time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.timer == nil || r.spell != spell {
		return // there is memory again
	}
	for s, last := range r.sessions {
		now := s.look()
		// One that is busy only now may have got its memory from the one that has just been closed.
		if last.busy && now == last {
			r.log.Warn("NBD client does not take its replies while others wait for memory, closing", "remote", s.link.remote)
			s.link.end()
		}
		r.sessions[s] = now
	}
	r.timer.Reset(every)
}
