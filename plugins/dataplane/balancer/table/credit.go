package table

import (
	"errors"
	"fmt"
	"math"
	"sync/atomic"
	"time"

	"github.com/ratchetos/ratchet/plugins/dataplane/bpf"
)

// ErrStale says that a report is not newer than the last one.
var ErrStale = errors.New("report is not newer than the last one")

// Credit is what a host reports of a component.
type Credit struct {
	Seq      uint64        // grows with each report
	Limit    uint32        // how many more flows it can take, at the moment of the report
	Accepted uint64        // how many it has accepted in all
	TTL      time.Duration // from now; past it the backend counts as full
	// Restarted is the first report of a reporter that counts from the beginning: what was on its way to the
	// one before is taken as accepted. So is Accepted that falls back.
	Restarted bool
	// Unlimited lets every flow in, without reports and for ever.
	Unlimited bool
	// Absolute says that Accepted is in terms of Dispatched, as CreditOf gave it: nothing is rebased.
	Absolute bool
}

// unlimited grants more than will ever be dispatched.
const unlimited = math.MaxUint64 / 2

// SetCredit grants limit - (dispatched - accepted) new flows, never more than limit, as invariant D1 says: those on
// their way when the report was made count against it. The program takes its credits while this runs; it loses and doubles none,
// because what it counts and what is granted here are two words.
func (t *Table) SetCredit(id BackendID, c Credit) error {
	t.crediting.Lock()
	defer t.crediting.Unlock()
	if !t.usable(id) {
		return fmt.Errorf("credit of backend %d: there is no such backend", id)
	}
	r := &t.shared.credits.Elems[id]
	if c.Unlimited {
		r.Sequence = 0
		atomic.StoreUint64(&r.Floor, 0)
		atomic.StoreUint64(&r.Expires, 0)
		atomic.StoreUint64(&r.Grant, unlimited)
		return nil
	}
	if c.TTL <= 0 {
		return fmt.Errorf("credit of backend %d: a report with a TTL of %v grants nothing", id, c.TTL)
	}
	first := r.Sequence == 0 || c.Restarted
	if !first && c.Seq <= r.Sequence {
		return ErrStale
	}
	dispatched := atomic.LoadUint64(&r.Dispatched)
	// base turns the host's count into ours. It moves when the host begins anew, and when it has accepted more
	// than we sent: flows of another balancer, or such that were believed unfinished.
	if c.Absolute {
		r.Base = 0
	} else if first || c.Accepted < r.Accepted || int64(dispatched-(c.Accepted+r.Base)) < 0 {
		r.Base = dispatched - c.Accepted
	}
	r.Sequence = max(c.Seq, 1)
	r.Accepted = c.Accepted
	floor := c.Accepted + r.Base
	grant := floor + uint64(c.Limit)
	expires := bpf.Now() + uint64(c.TTL)
	if expires < atomic.LoadUint64(&r.Expires) { // the shorter promise first
		atomic.StoreUint64(&r.Expires, expires)
	}
	atomic.StoreUint64(&r.Floor, floor)
	atomic.StoreUint64(&r.Grant, grant)
	atomic.StoreUint64(&r.Expires, expires)
	return nil
}

// CreditState is what is left of a grant.
type CreditState struct {
	Seq        uint64
	Dispatched uint64        // flows sent there, without those that came back unfinished
	Left       int64         // may be negative after a report that granted less
	Expires    time.Duration // from now; negative: run out
	Returned   uint64
	Unlimited  bool
}

// CreditOf reads it.
func (t *Table) CreditOf(id BackendID) CreditState {
	if int(id) >= len(t.shared.credits.Elems) {
		return CreditState{}
	}
	t.crediting.Lock()
	defer t.crediting.Unlock()
	r := &t.shared.credits.Elems[id]
	s := CreditState{
		Seq:        r.Sequence,
		Dispatched: atomic.LoadUint64(&r.Dispatched),
		Returned:   atomic.LoadUint64(&r.Returned),
	}
	grant := atomic.LoadUint64(&r.Grant)
	s.Left = int64(grant - s.Dispatched)
	s.Unlimited = grant == unlimited
	if e := atomic.LoadUint64(&r.Expires); e != 0 {
		s.Expires = time.Duration(e - bpf.Now())
	}
	return s
}
