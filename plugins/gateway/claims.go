package gateway

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/ratchetos/ratchet/core/plugin"
)

// claimTime is how long core may take to open something.
const claimTime = 10 * time.Second

// claims are what core could not open at the start: a disk that was pulled, a file that is not there. One volume needs it,
// and asks again while it comes up; the others serve meanwhile.
type claims struct {
	host   plugin.Host // nil for none
	wants  []plugin.Want
	handed map[string]plugin.Handle // at the start; read only

	mu   sync.Mutex
	late map[string]plugin.Handle
}

// get returns the handle of a want, which core is asked for if it has not handed it out.
func (c *claims) get(ctx context.Context, name string) (plugin.Handle, error) {
	if h := c.handed[name]; h.File != nil {
		return h, nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if h := c.late[name]; h.File != nil {
		return h, nil
	}
	for _, w := range c.wants {
		if w.GetName() != name || c.host == nil {
			continue
		}
		ctx, cancel := context.WithTimeout(ctx, claimTime)
		defer cancel()
		h, err := c.host.Claim(ctx, w)
		if err != nil {
			return h, err
		}
		if c.late == nil {
			c.late = make(map[string]plugin.Handle)
		}
		c.late[name] = h
		return h, nil
	}
	return plugin.Handle{}, fmt.Errorf("core handed out no %s", name)
}

// close closes what came late.
func (c *claims) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, h := range c.late {
		if h.File != nil {
			h.File.Close()
		}
	}
}
