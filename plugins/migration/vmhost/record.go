package vmhost

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/google/renameio/v2"

	"github.com/ratchetos/ratchet/plugins/migration/model"
)

// recordVersion is the format of records written here. A newer one is left alone (invariant X1).
const recordVersion = 1

// record is what is kept of a VM.
type record struct {
	Version int         `json:"version"`
	Shape   model.Shape `json:"shape"`
	// Move is the ID of the move that it is the destination of, until it is settled.
	Move string `json:"move,omitempty"`
	// Made are files of disks that were made for the move: they go when it is discarded.
	Made []string `json:"made,omitempty"`
}

func recordFile(dir string) string { return filepath.Join(dir, "record.json") }

// save is on the disk when it returns: renameio syncs the file, and the rename by syncing the directory after it.
func save(path string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode %s: %w", filepath.Base(path), err)
	}
	if err := renameio.WriteFile(path, append(b, '\n'), 0o600); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("sync directory: %w", err)
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("sync directory %s: %w", dir, err)
	}
	return nil
}

func loadRecord(dir string) (record, error) {
	var r record
	b, err := os.ReadFile(recordFile(dir))
	if err != nil {
		return r, fmt.Errorf("read record of VM: %w", err)
	}
	if err := json.Unmarshal(b, &r); err != nil {
		return r, fmt.Errorf("decode %s: %w", recordFile(dir), err)
	}
	if r.Version > recordVersion {
		return r, fmt.Errorf("%s is of version %d: this program knows %d; use a newer ratchet", recordFile(dir), r.Version, recordVersion)
	}
	return r, nil
}

// epochFile holds the highest epoch that a manager has had.
type epochFile struct {
	Version int    `json:"version"`
	Epoch   uint64 `json:"epoch"`
}

func loadEpoch(path string) (uint64, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read epoch: %w", err)
	}
	var f epochFile
	if err := json.Unmarshal(b, &f); err != nil {
		return 0, fmt.Errorf("decode %s: %w", path, err)
	}
	if f.Version > recordVersion {
		return 0, fmt.Errorf("%s is of version %d: this program knows %d; use a newer ratchet", path, f.Version, recordVersion)
	}
	return f.Epoch, nil
}
