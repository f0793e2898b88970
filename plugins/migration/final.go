package migration

import (
	"context"
	"errors"
	"fmt"

	"github.com/ratchetos/ratchet/plugins/migration/api"
	"github.com/ratchetos/ratchet/plugins/migration/hypervisor"
)

// An order that cannot be planned is tried again for as long as patience lasts, since a host or the gateway may only be away for a
// moment, and the rest of its wave waits meanwhile. What somebody who knows has said is not asked again.

// finalError is why a move cannot be planned, now or later.
type finalError struct{ error }

func (e *finalError) Unwrap() error { return e.error }

func finally(format string, args ...any) error { return &finalError{fmt.Errorf(format, args...)} }

// isFinal tells that trying again would change nothing.
func isFinal(err error) bool {
	var refused *refusedError
	var final *finalError
	return errors.As(err, &refused) || errors.As(err, &final) || errors.Is(err, hypervisor.ErrNoSuchVM) ||
		errors.Is(err, hypervisor.ErrFenced) || errors.Is(err, hypervisor.ErrNotHere)
}

// locate finds the VM of a request. Lists are up to some seconds old: a host that shall have the VM, and whose list
// does not, is asked.
func (m *mover) locate(ctx context.Context, rows []row, req api.MoveRequest) (api.VMReply, error) {
	vm, err := vmReply(rows, api.VMRequest{Name: req.VM, Host: req.Host})
	if err == nil || req.Host == "" {
		return vm, err
	}
	p, err := m.port(req.Host)
	if err != nil {
		return vm, err
	}
	switch state, err := p.Status(ctx, req.VM); {
	case err != nil:
		return vm, fmt.Errorf("look for VM %q on %s: %w", req.VM, req.Host, err)
	case state == hypervisor.Absent:
		return vm, finally("%s has no VM %q any more: it was ended, or moved by somebody else; `ratchetctl migrate vms` lists them", req.Host, req.VM)
	default:
		return api.VMReply{VM: api.VM{Name: req.VM, Host: req.Host, State: string(state)}}, nil
	}
}
