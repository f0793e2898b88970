package share

// Turns decides whose turn it is when a worker is free, or the line to the network. Pipelines advance along a virtual time
// that runs the slower the more they are granted, and within each pipeline its stages do; the one that is furthest
// behind is served. The zero value is ready.
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

// Charge adds what was used of a resource, which may be a negative correction: seconds of work against a grant of workers, or
// bytes against a grant of bytes a second. Without a grant the resource is without limit, and nobody counts.
func (a *Account) Charge(used, granted float64) {
	if granted > 0 {
		a.at += used / granted
	}
}
