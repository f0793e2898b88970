package ledger

import (
	"encoding/binary"
	"fmt"
	"io"
)

// Format writes a LEDGER as it leaves the factory: no ledger, no intent, and config in configuration
// slot 0 unless it is empty. The same config gives the same bytes.
func Format(w io.WriterAt, config []byte) error {
	if len(config) > MaxConfig {
		return fmt.Errorf("format LEDGER: configuration of %d bytes, at most %d", len(config), MaxConfig)
	}
	put := func(b []byte, at int64) error {
		if _, err := w.WriteAt(b, at); err != nil {
			return fmt.Errorf("format LEDGER at %#x: %w", at, err)
		}
		return nil
	}
	zeros := make([]byte, 64<<10)
	for at := int64(0); at < Size; at += int64(len(zeros)) {
		if err := put(zeros, at); err != nil {
			return err
		}
	}
	if len(config) != 0 {
		if err := put(record{kind: kindConfig, payload: config}.encode(), configAt(0)); err != nil {
			return err
		}
	}
	super := record{kind: kindSuper, payload: binary.LittleEndian.AppendUint64(nil, Size)}.encode()
	if err := put(super, superCopy); err != nil {
		return err
	}
	return put(super, superOffset)
}
