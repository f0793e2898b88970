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

// regrant keeps by how much an account is ahead of the present in what was used, not in time, when its grant changes: a
// first item that was charged at a small grant is not waited for at the large one.
func (t *Turns) regrant(a *Account, before, now float64) {
	if ahead := a.at - t.now; ahead > 0 && before > 0 && now > 0 {
		a.at = t.now + ahead*before/now
	}
}

// Charge adds what was used of a resource, which may be a negative correction: seconds of work against a grant of workers, or
// bytes against a grant of bytes a second. Without a grant the resource is without limit, and nobody counts.
func (a *Account) Charge(used, granted float64) {
	if granted > 0 {
		a.at += used / granted
	}
}
