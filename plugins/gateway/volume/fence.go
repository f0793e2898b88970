package volume

import (
	"context"
	"fmt"
)

// SetWriter records, durably on return, which client may write and in what epoch of writers (S15).
// The volume only remembers it.
func (v *Volume) SetWriter(ctx context.Context, epoch uint64, id [16]byte) error {
	if err := v.Err(); err != nil {
		return fmt.Errorf("set writer: %w", err)
	}
	if err := v.setMark(nil, func(m *mark) { m.writerEpoch, m.writerID = epoch, id }); err != nil {
		return fmt.Errorf("set writer: %w", err)
	}
	if err := v.log.Flush(ctx); err != nil {
		return fmt.Errorf("set writer: %w", v.explain(err))
	}
	return nil
}

// Writer returns what SetWriter recorded last, zeroes if nothing.
func (v *Volume) Writer() (epoch uint64, id [16]byte) {
	m := v.mark()
	return m.writerEpoch, m.writerID
}
