package share

// Turns decides whose turn it is when a worker is free. Pipelines advance along a virtual time that runs the slower the
// more they are granted, and within each pipeline its stages do; the one that is furthest behind is served. The
// zero value is ready.
type Turns struct{ now float64 }

// Account is the virtual time of one pipeline among the pipelines, or of one stage among those of its pipeline.
type Account struct{ at float64 }

// lag is how far behind one may fall by having nothing to do, in seconds of granted work: enough to catch up with a hiccup,
// too little to hold up others after an idle hour.
const lag = 0.1

// Virtual is what [Turns] compares. An account that was idle is moved up to the present.
func (t *Turns) Virtual(a *Account) float64 {
	a.at = max(a.at, t.now-lag)
	return a.at
}

// Serve moves the present to an account that has been chosen, before it is charged.
func (t *Turns) Serve(a *Account) { t.now = max(t.now, a.at) }

// Charge adds work, which may be a negative correction, done with a grant of that many workers.
func (a *Account) Charge(seconds, granted float64) { a.at += seconds / max(granted, 1e-6) }
