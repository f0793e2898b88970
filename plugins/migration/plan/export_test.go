package plan

// What tests look at from outside: they share package plantest with benches, which imports this one.
var (
	Size   = size
	Clone  = clone
	Places = places
)

const (
	DIMMBlock = dimmBlock
	Slack     = slack
	MaxSteps  = maxSteps
)

// At is where a place is.
func (p place) At() (bus, addr string) { return p.bus, p.addr }
