package core

import (
	"context"
	"errors"
	"fmt"

	"github.com/ratchetos/ratchet/boot/ledger"
	"github.com/ratchetos/ratchet/boot/request"
	"github.com/ratchetos/ratchet/boot/slot"
	"github.com/ratchetos/ratchet/core/api"
	"github.com/ratchetos/ratchet/core/api/apipb"
)

// Recovery implements api.Backend.
func (b backend) Recovery(ctx context.Context) (*apipb.ShowRecoveryReply, error) {
	s := &apipb.ShowRecoveryReply{}
	r := b.a.report
	if r == nil {
		return s, nil
	}
	s.Box, s.Counter = r.TPM.SRKName, r.Counter
	var err error
	if s.Entering, err = slot.OpenFirmware().RecoveryAsked(); err != nil {
		return nil, err
	}
	if s.Owners, err = owners(r.OwnerKeys); err != nil {
		return nil, err
	}
	if b.a.attempts != nil {
		now, err := b.a.attempts.Status(ctx)
		if err != nil {
			return nil, fmt.Errorf("read counter: %w", err)
		}
		s.Counter = now.Counter
	}
	if r.BootDisk.Ledger == "" {
		return s, nil
	}
	err = withLedger(r.BootDisk.Ledger, true, func(l *ledger.Store) error {
		text, err := l.ReadRequest()
		if err == nil {
			if q, bad := request.Parse(text); bad == nil {
				s.Pending = fmt.Sprintf("%s, made for counter %d", q.Request, q.Counter)
			} else {
				s.Pending = bad.Error()
			}
		}
		if err = none(err); err == nil {
			s.Outcome, err = l.ReadOutcome()
		}
		return none(err)
	})
	return s, err
}

// owners are the fingerprints of keys.
func owners(pem []string) ([]string, error) {
	keys, err := request.Keys(pem)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, k := range keys {
		out = append(out, request.Fingerprint(k))
	}
	return out, nil
}

// none takes "there is nothing" as an answer.
func none(err error) error {
	if errors.Is(err, ledger.ErrEmpty) {
		return nil
	}
	return err
}

func withLedger(node string, readOnly bool, use func(*ledger.Store) error) error {
	f, err := ledger.OpenFile(node, readOnly)
	if err != nil {
		return err
	}
	return errors.Join(use(ledger.Open(f)), f.Close())
}

// EnterRecovery implements api.Backend.
func (b backend) EnterRecovery(context.Context) error {
	if b.a.report == nil {
		return fmt.Errorf("%w: core runs on a workstation, which has no recovery console", api.ErrPrecondition)
	}
	err := slot.OpenFirmware().AskRecovery()
	if errors.Is(err, slot.ErrNoFirmware) {
		return fmt.Errorf("%w: %w; reboot and press Enter when the console offers it", api.ErrPrecondition, err)
	}
	return err
}

// RequestRecovery implements api.Backend. Init verifies again: what is refused here only saves a restart.
func (b backend) RequestRecovery(ctx context.Context, text string) (*apipb.RecoveryReply, error) {
	r := b.a.report
	if r == nil {
		return nil, fmt.Errorf("%w: core runs on a workstation, which has no init to ask", api.ErrPrecondition)
	}
	q, err := request.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", api.ErrInvalid, err)
	}
	keys, err := request.Keys(r.OwnerKeys)
	if err != nil {
		return nil, err
	}
	who, err := q.Verify(keys)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", api.ErrInvalid, err)
	}
	if r.BootDisk.Ledger == "" || b.a.attempts == nil {
		return nil, fmt.Errorf("%w: on an isolated box nobody writes to the disk; type it at the recovery console: request TEXT", api.ErrNotReleased)
	}
	now, err := b.a.attempts.Status(ctx)
	if err != nil {
		return nil, fmt.Errorf("read counter: %w", err)
	}
	if err := q.Fits(r.TPM.SRKName, now.Counter); err != nil {
		return nil, fmt.Errorf("%w: %w", api.ErrPrecondition, err)
	}
	err = withLedger(r.BootDisk.Ledger, false, func(l *ledger.Store) error { return l.WriteRequest(q.Text()) })
	if err != nil {
		return nil, err
	}
	return &apipb.RecoveryReply{What: q.String(), Signer: who}, nil
}
