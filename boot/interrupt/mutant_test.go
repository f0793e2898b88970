package interrupt

import (
	"context"

	"github.com/ratchetos/ratchet/boot"
	"github.com/ratchetos/ratchet/boot/attempt"
	"github.com/ratchetos/ratchet/boot/ledger"
	"github.com/ratchetos/ratchet/core/update"
)

// mutant is a box that does one thing in the wrong order.
type mutant string

const (
	none              mutant = ""
	eBeforeLedger     mutant = "E is written before the ledger is durable"
	countsAfterwards  mutant = "the attempt is counted after the slot was written"
	intentNotSynced   mutant = "the intent is not synced"
	orderBeforeHealth mutant = "the new slot is first before it is healthy"
	writesRunning     mutant = "the slot that runs is written"
	raisesTooEarly    mutant = "V rises while the older slot is the way back"
)

var mutants = []mutant{eBeforeLedger, countsAfterwards, intentNotSynced, orderBeforeHealth, writesRunning, raisesTooEarly}

// initLedger is LEDGER as init opens it.
func (b *box) initLedger(node string) boot.Medium {
	p := b.parts[node]
	p.lazy = b.mutant == eBeforeLedger
	return p
}

// attempts is core's Manager, but for mutants.
type attempts struct {
	*attempt.Manager
	b    *box
	late *ledger.Intent
}

var _ update.Attempts = (*attempts)(nil)

func (a *attempts) Open(ctx context.Context, i ledger.Intent) (attempt.Attempt, error) {
	if a.b.mutant == countsAfterwards {
		a.late = &i
		return attempt.Attempt{Number: 1, Open: 1}, a.b.power.read()
	}
	return a.Manager.Open(ctx, i)
}

// openSlot is a slot as core opens it.
type openSlot struct {
	part
	a     *attempts
	write bool
}

func (s *openSlot) Close() error {
	if i := s.a.late; i != nil && s.write {
		s.a.late = nil
		_, err := s.a.Manager.Open(context.Background(), *i)
		return err
	}
	return nil
}
