package audit

import (
	"errors"
	"io/fs"
	"os"
	"sync"
)

// limit is the size of a generation, in bytes: some 2,000 lines.
const limit = 512 << 10

// journal is two generations of lines, in a file and its predecessor or in memory.
type journal struct {
	path   string // "" is memory
	failed func(error)

	mu       sync.Mutex // over what follows
	file     *os.File
	size     int64 // of the newer generation
	old, now []byte
	closed   bool
	failing  bool
}

// older is where the older generation is.
func (j *journal) older() string { return j.path + ".1" }

// open goes on with the newer generation. A line that was cut off is ended, so that the next one can be read.
func (j *journal) open() error {
	f, err := os.OpenFile(j.path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	st, err := f.Stat()
	if err == nil && st.Size() > 0 {
		_, err = f.Write([]byte{'\n'})
	}
	if err != nil {
		return errors.Join(err, f.Close())
	}
	j.file, j.size = f, st.Size()+1
	return nil
}

// Write implements io.Writer; p is one line.
func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closed {
		return len(p), nil
	}
	err := j.put(p)
	if err != nil && !j.failing && j.failed != nil {
		j.failed(err)
	}
	j.failing = err != nil
	return len(p), err
}

func (j *journal) put(p []byte) error {
	if j.size+int64(len(p)) > limit {
		if err := j.rotate(); err != nil {
			return err
		}
	}
	if j.failing { // part of the last line may be there
		p = append([]byte{'\n'}, p...)
	}
	j.size += int64(len(p))
	if j.path == "" {
		j.now = append(j.now, p...)
		return nil
	}
	_, err := j.file.Write(p)
	return err
}

// rotate makes the newer generation the older one.
func (j *journal) rotate() error {
	if j.path == "" {
		j.old, j.now, j.size = j.now, nil, 0
		return nil
	}
	if err := os.Rename(j.path, j.older()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	before := j.file
	if err := j.open(); err != nil {
		return err
	}
	return before.Close()
}

// read returns both generations, the older one first.
func (j *journal) read() ([]byte, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.path == "" {
		return append(append([]byte(nil), j.old...), j.now...), nil
	}
	var out []byte
	for _, path := range []string{j.older(), j.path} {
		b, err := os.ReadFile(path)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		out = append(out, b...)
	}
	return out, nil
}

func (j *journal) close() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.closed = true
	if j.file == nil {
		return nil
	}
	return j.file.Close()
}
