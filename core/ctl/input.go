package ctl

import (
	"context"
	"io"
)

// input is an input whose reader can be interrupted: a read of a terminal waits for as long as nobody types. What comes
// after the interruption is lost, with the run.
type input struct {
	ctx context.Context
	in  io.Reader
}

func (i input) Read(p []byte) (int, error) {
	type result struct {
		p   []byte
		err error
	}
	done := make(chan result, 1)
	go func() {
		own := make([]byte, len(p)) // p is the caller's again once this returns
		n, err := i.in.Read(own)
		done <- result{own[:n], err}
	}()
	select {
	case r := <-done:
		return copy(p, r.p), r.err
	case <-i.ctx.Done():
		return 0, i.ctx.Err()
	}
}
