package journal

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Disk is the folder a journal lives in.
type Disk interface {
	// Read returns a file's bytes, none if there is no such file.
	Read(name string) ([]byte, error)
	// Append opens a file for appending behind its first size bytes; what follows them is dropped. It makes the file
	// if size is 0.
	Append(name string, size int64) (File, error)
	// Replace makes name the file that was called with. It is durable on return.
	Replace(with, name string) error
}

// File is one that is being written.
type File interface {
	Write(p []byte) (int, error)
	Sync() error
	// Truncate cuts the file off; later writes go behind its new end.
	Truncate(size int64) error
	Close() error
}

// Dir is a folder of this machine.
type Dir string

var _ Disk = Dir("")

// Read implements Disk.
func (d Dir) Read(name string) ([]byte, error) {
	data, err := os.ReadFile(filepath.Join(string(d), name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return data, err
}

// Append implements Disk.
func (d Dir) Append(name string, size int64) (File, error) {
	f, err := os.OpenFile(filepath.Join(string(d), name), os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(f.Truncate(size), f.Sync(), d.sync()); err != nil {
		f.Close()
		return nil, fmt.Errorf("cut %s to %d bytes: %w", name, size, err)
	}
	return f, nil
}

// Replace implements Disk.
func (d Dir) Replace(with, name string) error {
	if err := os.Rename(filepath.Join(string(d), with), filepath.Join(string(d), name)); err != nil {
		return err
	}
	return d.sync()
}

// sync makes names durable.
func (d Dir) sync() error {
	f, err := os.Open(string(d))
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Sync(); err != nil {
		return fmt.Errorf("sync folder %s: %w", d, err)
	}
	return nil
}
