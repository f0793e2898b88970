package journal

import (
	"errors"
	"fmt"
	"sync"
	"time"
)

const (
	name = "moves.journal"
	next = "moves.journal.next"
	// full is how many times Options.Large the journal may grow to when its owner does not rewrite it.
	full = 8
)

var (
	// ErrUncertain means that a record may or may not survive: the journal takes no more until it is opened again.
	ErrUncertain = errors.New("the journal of moves can be neither written nor cut back; repair its disk and restart the plugin")
	// ErrFull means that the journal has outgrown its bound.
	ErrFull = errors.New("the journal of moves is full: end or cancel moves")
	errShut = errors.New("the journal of moves is closed")
)

// Options tune a journal; the zero value works.
type Options struct {
	// Now is the clock; nil is time.Now.
	Now func() time.Time
	// Large is how many bytes make Large true; 0 is 1 MiB.
	Large int64

	noSync bool // a mutant: tests prove that they notice
}

// Journal is an open one.
type Journal struct {
	disk Disk
	opts Options

	mu   sync.Mutex
	file File
	size int64
	seq  uint64
	err  error // why it takes no more
}

// Open reads the journal on a disk and opens it for more.
func Open(disk Disk, o Options) (*Journal, []Record, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Large == 0 {
		o.Large = 1 << 20
	}
	data, err := disk.Read(name)
	if err != nil {
		return nil, nil, fmt.Errorf("read journal of moves: %w", err)
	}
	records, whole, err := Parse(data)
	if err != nil {
		return nil, nil, err
	}
	j := &Journal{disk: disk, opts: o, size: int64(whole)}
	if n := len(records); n > 0 {
		j.seq = records[n-1].Seq
	}
	if j.file, err = disk.Append(name, j.size); err != nil {
		return nil, nil, fmt.Errorf("open journal of moves: %w", err)
	}
	if whole == 0 {
		if err := j.write(Header{Format: Format, Version: Version}); err != nil {
			j.file.Close()
			return nil, nil, fmt.Errorf("begin journal of moves: %w", err)
		}
	}
	return j, records, nil
}

// Append adds a record, whose Seq and At it fills in. See the package comment for what an error means.
func (j *Journal) Append(r Record) (Record, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	switch {
	case j.err != nil:
		return r, j.err
	case j.size > full*j.opts.Large:
		return r, ErrFull
	}
	r.Seq, r.At = j.seq+1, j.opts.Now().UTC()
	if err := j.write(r); err != nil {
		return r, fmt.Errorf("append %s to journal of moves: %w", r.Kind, err)
	}
	j.seq = r.Seq
	return r, nil
}

// write appends a line and syncs it, or takes it back.
func (j *Journal) write(v any) error {
	line, err := encode(v)
	if err != nil {
		return err
	}
	if _, err = j.file.Write(line); err == nil {
		err = j.sync()
	}
	if err == nil {
		j.size += int64(len(line))
		return nil
	}
	// After a failed sync the pages may be marked clean and still reach the disk, or not: only a cut that was synced says
	// that they do not count.
	if undo := errors.Join(j.file.Truncate(j.size), j.file.Sync()); undo != nil {
		j.err = fmt.Errorf("%w: %w", ErrUncertain, errors.Join(err, undo))
		return j.err
	}
	return err
}

func (j *Journal) sync() error {
	if j.opts.noSync {
		return nil
	}
	return j.file.Sync()
}

// Large tells whether the journal should be rewritten.
func (j *Journal) Large() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.size > j.opts.Large
}

// Rewrite replaces the journal by one with these records, which it numbers anew. Nothing may be appended meanwhile that
// they do not cover. On an error the journal is as it was.
func (j *Journal) Rewrite(records []Record) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.err != nil {
		return j.err
	}
	text, err := encode(Header{Format: Format, Version: Version})
	if err != nil {
		return err
	}
	seq := j.seq
	for _, r := range records {
		seq++
		r.Seq = seq
		line, err := encode(r)
		if err != nil {
			return err
		}
		text = append(text, line...)
	}
	f, err := j.disk.Append(next, 0)
	if err != nil {
		return fmt.Errorf("rewrite journal of moves: %w", err)
	}
	if _, err = f.Write(text); err == nil {
		err = f.Sync()
	}
	if err != nil {
		return fmt.Errorf("rewrite journal of moves: %w", errors.Join(err, f.Close()))
	}
	if err := j.disk.Replace(next, name); err != nil {
		// It may have been renamed, and not durably: which of the two the next Open finds is the same to it, but what
		// would be appended to the wrong one is lost.
		f.Close()
		j.err = fmt.Errorf("%w: %w", ErrUncertain, err)
		return j.err
	}
	j.file.Close()
	j.file, j.size, j.seq = f, int64(len(text)), seq
	return nil
}

// Close ends the journal.
func (j *Journal) Close() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if errors.Is(j.err, errShut) {
		return nil
	}
	j.err = errShut
	return j.file.Close()
}
