package interrupt

import (
	"errors"
	"sync"
)

var errPower = errors.New("the power failed")

// power is what every part of the box hangs on. Without it nothing has an effect and nothing answers.
type power struct {
	mu   sync.Mutex
	off  bool
	left int // effects until it fails, never if negative
	used int // effects since it was armed
	// at is the effect that it failed before.
	at string
}

// arm has the power fail before the n-th effect from now, never for a negative n.
func (p *power) arm(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.off, p.left, p.used, p.at = false, n, 0, ""
}

// effect is asked before anything that outlasts the power.
func (p *power) effect(what string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.off {
		return errPower
	}
	if p.left == 0 {
		p.off, p.at = true, what
		return errPower
	}
	p.left--
	p.used++
	return nil
}

// read is asked before anything else.
func (p *power) read() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.off {
		return errPower
	}
	return nil
}

// resume is the power after a reset.
func (p *power) resume() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.off = false
}

// kill is the end of an image that dies by itself.
func (p *power) kill() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.off = true
}

// cut says whether the power has failed, and before what; an image that died by itself was before nothing.
func (p *power) cut() (off bool, at string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.off, p.at
}

func (p *power) effects() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.used
}
