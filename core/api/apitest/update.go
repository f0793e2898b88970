package apitest

import (
	"context"
	"fmt"
	"strings"

	"github.com/ratchetos/ratchet/core/api"
	"github.com/ratchetos/ratchet/core/api/apipb"
)

const digestA, digestB = "5a1be0ef0000", "9c0ffee00000"

// UpdateStatus is that of a box which has tried slot B and waits for the other to settle.
func (b *Backend) UpdateStatus(context.Context) (*apipb.UpdateStatusReply, error) {
	if b.Isolated {
		return &apipb.UpdateStatusReply{Running: "A", Version: "1.0", Boots: 2, Blocked: "this box cannot be updated: it is isolated: the disk was rolled back"}, nil
	}
	return &apipb.UpdateStatusReply{
		Running: "B", Version: "1.1", SecurityVersion: 3, Floor: 2, Healthy: true, First: "B", SettlesInMs: 7_200_000,
		Slots: []*apipb.ImageSlot{
			{Name: "A", Digest: digestA, SecurityVersion: 2, Decision: "released", Code: "ok", Reason: "nothing was tried on it since it was read"},
			{Name: "B", Digest: digestB, SecurityVersion: 3, Decision: "released", Code: "closed", Reason: "attempt 43 wrote image 9c0ffee00000"},
		},
	}, nil
}

// StageUpdate counts what it is given.
func (b *Backend) StageUpdate(_ context.Context, offset uint64, data []byte) (uint64, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if offset == 0 {
		b.bundle = 0
	}
	if offset != b.bundle {
		return b.bundle, fmt.Errorf("%w: a piece at %d, %d bytes are there", api.ErrInvalid, offset, b.bundle)
	}
	if strings.HasPrefix(string(data), "other") {
		return 0, fmt.Errorf("%w: the bundle is not for this box: it has the cloud kernel, this box runs full", api.ErrPrecondition)
	}
	b.bundle += uint64(len(data))
	return b.bundle, nil
}

// ApplyUpdate writes slot A.
func (b *Backend) ApplyUpdate(_ context.Context, r *apipb.ApplyUpdateRequest, emit func(*apipb.UpdateProgress) error) error {
	if b.Isolated {
		return fmt.Errorf("apply update: %w", api.ErrNotReleased)
	}
	b.mu.Lock()
	size := b.bundle
	b.mu.Unlock()
	b.note("update %q reboot %t %d bytes", r.GetUrl(), r.GetReboot(), size)
	result := &apipb.UpdateResult{
		Version: "1.2", SecurityVersion: 3, Slot: "A", Digest: digestA, Attempt: 44, Bytes: 25 << 20, WriteMs: 1500, ReadMs: 500, Reboot: r.GetReboot(),
	}
	for _, p := range []*apipb.UpdateProgress{
		{Phase: "verify", Done: 25 << 20, Total: 25 << 20},
		{Phase: "write", Done: 10 << 20, Total: 25 << 20},
		{Phase: "write", Done: 25 << 20, Total: 25 << 20},
		{Phase: "read back", Done: 25 << 20, Total: 25 << 20},
		{Result: result},
	} {
		if err := emit(p); err != nil {
			return err
		}
	}
	return nil
}

// SettleUpdate copies slot B to A.
func (b *Backend) SettleUpdate(_ context.Context, emit func(*apipb.UpdateProgress) error) error {
	b.note("settle")
	return emit(&apipb.UpdateProgress{Result: &apipb.UpdateResult{Version: "1.1", SecurityVersion: 3, Slot: "A", Digest: digestB, Attempt: 44, Bytes: 25 << 20, WriteMs: 1500, ReadMs: 500}})
}

// RollbackUpdate goes back to slot A.
func (b *Backend) RollbackUpdate(_ context.Context, reboot bool) (*apipb.RollbackUpdateReply, error) {
	if b.Isolated {
		return nil, fmt.Errorf("%w: slot B holds no good image", api.ErrPrecondition)
	}
	b.note("rollback reboot %t", reboot)
	return &apipb.RollbackUpdateReply{Slot: "A", SecurityVersion: 2}, nil
}
