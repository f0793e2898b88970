package nbd

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"unicode/utf8"
)

// Export is a backend under a name. Fields are constant once it is served.
type Export struct {
	Name        string
	Description string // for people, shown by clients that list
	ReadOnly    bool
	Backend     Backend
	// Admit, when set, is called once for each connection that chose the export. expel closes the connection: once it
	// has returned the client gets no reply any more. It does not wait for what is in flight, and may be called often.
	Admit func(expel func()) Admission

	stats Stats
	whole *Export // of a view
}

// Stats returns the counters of the export, which live as long as it does.
func (e *Export) Stats() *Stats {
	if e.whole != nil {
		return &e.whole.stats
	}
	return &e.stats
}

// View returns the export as one client may see it, under another name or with fewer rights. Its counters are those of
// the export.
func (e *Export) View() *Export {
	whole := e
	if e.whole != nil {
		whole = e.whole
	}
	return &Export{Name: e.Name, Description: e.Description, ReadOnly: e.ReadOnly, Backend: e.Backend, Admit: e.Admit, whole: whole}
}

// limits returns what requests on the export must obey.
func (e *Export) limits() limits {
	minimum, _, maximum := e.blockSize()
	_, cache := e.Backend.(Cacher)
	return limits{
		size: e.Backend.Size(), minimum: minimum, maximum: maximum,
		readOnly: e.ReadOnly, cache: cache,
	}
}

// blockSize makes any answer of the backend one that the protocol allows.
func (e *Export) blockSize() (minimum, preferred, maximum uint32) {
	minimum, preferred, maximum = e.Backend.BlockSize()
	minimum = max(minimum, 1)
	if maximum == 0 || maximum > MaxRequest {
		maximum = MaxRequest
	}
	return minimum, min(max(preferred, minimum, 512), maximum), maximum
}

// transmissionFlags are sent to a client that chose the export.
func (e *Export) transmissionFlags(structured bool) uint16 {
	f := flagHasFlags | flagSendFlush | flagSendFUA | flagMultiConn
	if e.ReadOnly {
		f |= flagReadOnly
	} else {
		f |= flagSendTrim | flagSendZeroes | flagSendFastZero
	}
	if structured {
		f |= flagSendDF
	}
	if _, ok := e.Backend.(Cacher); ok {
		f |= flagSendCache
	}
	return f
}

// Exports is what a server looks names up in. Both methods are called during handshakes,
// from many goroutines.
type Exports interface {
	// Lookup returns nil for a name that is not exported. The empty name asks for the default.
	Lookup(name string) *Export
	// List is in the order in which clients see it.
	List() []*Export
}

// Set is an Exports whose members come and go. The zero value is empty and ready.
// Removing an export does not end the connections that already use it.
type Set struct {
	mu     sync.RWMutex
	byName map[string]*Export
}

var _ Exports = (*Set)(nil)

// Add exports e. Its name must be new, 1 to MaxName bytes of UTF-8 without NUL.
func (s *Set) Add(e *Export) error {
	if e.Name == "" || len(e.Name) > MaxName || !utf8.ValidString(e.Name) || strings.ContainsRune(e.Name, 0) {
		return fmt.Errorf("export %q: name must be 1 to %d bytes of text", e.Name, MaxName)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.byName[e.Name]; ok {
		return fmt.Errorf("export %q: name is taken", e.Name)
	}
	if s.byName == nil {
		s.byName = make(map[string]*Export)
	}
	s.byName[e.Name] = e
	return nil
}

// Remove takes the name back and returns what it stood for, nil if nothing.
func (s *Set) Remove(name string) *Export {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.byName[name]
	delete(s.byName, name)
	return e
}

// Lookup implements Exports. The only export is the default one; among several there is none.
func (s *Set) Lookup(name string) *Export {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if name == "" && len(s.byName) == 1 {
		for _, e := range s.byName {
			return e
		}
	}
	return s.byName[name]
}

// List implements Exports, sorted by name.
func (s *Set) List() []*Export {
	s.mu.RLock()
	defer s.mu.RUnlock()
	list := make([]*Export, 0, len(s.byName))
	for _, e := range s.byName {
		list = append(list, e)
	}
	slices.SortFunc(list, func(a, b *Export) int { return strings.Compare(a.Name, b.Name) })
	return list
}
