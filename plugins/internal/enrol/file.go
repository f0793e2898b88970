package enrol

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// WriteFile writes an identity to a file that only its owner can read, whatever was there before.
func WriteFile(path, identity string) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".identity-*") // made with mode 0600
	if err != nil {
		return fmt.Errorf("write identity: %w", err)
	}
	_, err = f.WriteString(identity)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		os.Remove(f.Name())
		return fmt.Errorf("write identity: %w", err)
	}
	return nil
}
