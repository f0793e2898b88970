package host

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/ratchetos/ratchet/core/plugin/pluginpb"
	"github.com/ratchetos/ratchet/core/plugin/wire"
)

// maxClaims bounds what a plugin can hold, wanted and claimed.
const maxClaims = 192

// held is one open thing of a plugin.
type held struct {
	want    *pluginpb.Want
	opened  Opened
	dynamic bool // claimed at run time: goes with the process that claimed it
}

// handleSet is all a plugin has open. It lives as long as the plugin is enabled.
type handleSet struct {
	mu   sync.Mutex
	open map[string]*held
	used bool // by a process that has not stopped in order
}

// reconcile closes what is not wanted any more and opens what is missing. Things that are
// wanted as before stay open throughout. What is optional and cannot be opened is in missing, by its name.
func (s *handleSet) reconcile(ctx context.Context, res Resources, req Request, wants []*pluginpb.Want) (missing map[string]error, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open == nil {
		s.open = make(map[string]*held)
	}
	if len(wants) > maxClaims {
		return nil, fmt.Errorf("open handles: %d wanted, at most %d", len(wants), maxClaims)
	}
	keep := make(map[string]bool, len(wants))
	for _, w := range wants {
		if h := s.open[w.GetName()]; h != nil && !h.dynamic && (sameThing(h.want, w) || s.precious(h, w)) {
			keep[w.GetName()] = true
		}
	}
	var errs []error
	for name := range s.open {
		if !keep[name] {
			errs = append(errs, s.close(name))
		}
	}
	missing = make(map[string]error)
	for _, w := range wants {
		if keep[w.GetName()] {
			continue
		}
		req.Want = w
		h, err := openOne(ctx, res, req)
		switch {
		case err == nil:
			s.open[w.GetName()] = h
		case w.GetOptional() && w.GetName() != "":
			missing[w.GetName()] = err
		default:
			return missing, errors.Join(append(errs, err)...)
		}
	}
	return missing, errors.Join(errs...)
}

// precious says that memory of another size stays for now: it may hold what the last process could not finish, and
// only the next one knows what to do with it. After a process that stopped in order it is replaced.
func (s *handleSet) precious(h *held, w *pluginpb.Want) bool {
	return s.used && w.GetKind() == pluginpb.Kind_MEMORY && h.want.GetKind() == pluginpb.Kind_MEMORY
}

// settle notes that the process which had everything stopped in order.
func (s *handleSet) settle() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.used = false
}

// add opens one more thing for the running process.
func (s *handleSet) add(ctx context.Context, res Resources, req Request) (*held, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	name := req.Want.GetName()
	if s.open[name] != nil {
		return nil, fmt.Errorf("claim %s: a handle of this name is open already", name)
	}
	if len(s.open) >= maxClaims {
		return nil, fmt.Errorf("claim %s: %d handles are open already", name, maxClaims)
	}
	h, err := openOne(ctx, res, req)
	if err != nil {
		return nil, err
	}
	h.dynamic = true
	s.open[name] = h
	return h, nil
}

// send hands everything to a process and returns what to tell it in Start.
func (s *handleSet) send(control *wire.Control, deadline time.Time) ([]*pluginpb.Handle, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []*pluginpb.Handle
	for _, h := range s.open {
		p, err := h.send(control, deadline)
		if err != nil {
			return nil, err
		}
		out = append(out, p)
	}
	return out, nil
}

// sent notes that a process has taken everything over.
func (s *handleSet) sent() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.used = true
	for _, h := range s.open {
		if h.opened.Sent != nil {
			h.opened.Sent(h.opened.Handle)
		}
	}
}

// drop closes one thing that was claimed at run time.
func (s *handleSet) drop(name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.open[name]
	if h == nil || !h.dynamic {
		return fmt.Errorf("release %s: no such claim", name)
	}
	return s.close(name)
}

// clear closes everything, or only what was claimed at run time.
func (s *handleSet) clear(onlyDynamic bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.used = s.used && onlyDynamic
	var errs []error
	for name, h := range s.open {
		if h.dynamic || !onlyDynamic {
			errs = append(errs, s.close(name))
		}
	}
	return errors.Join(errs...)
}

func (s *handleSet) close(name string) error {
	h := s.open[name]
	delete(s.open, name)
	return h.close()
}

func (h *held) close() error {
	var err error
	if h.opened.File != nil {
		err = h.opened.File.Close()
	}
	if h.opened.Release != nil {
		err = errors.Join(err, h.opened.Release())
	}
	if err != nil {
		return fmt.Errorf("release %s: %w", h.want.GetName(), err)
	}
	return nil
}

func (h *held) send(control *wire.Control, deadline time.Time) (*pluginpb.Handle, error) {
	if h.opened.File != nil {
		m := wire.Message{Kind: wire.KindHandle, Name: h.want.GetName()}
		if err := control.Send(m, h.opened.File, deadline); err != nil {
			return nil, err
		}
	}
	p, ok := proto.Clone(h.opened.Handle).(*pluginpb.Handle)
	if !ok {
		return nil, errors.New("send handle: no handle")
	}
	return p, nil
}

func openOne(ctx context.Context, res Resources, req Request) (*held, error) {
	w := req.Want
	if w.GetName() == "" {
		return nil, fmt.Errorf("open %s %q: the want has no name", w.GetKind(), w.GetSelector())
	}
	o, err := res.Open(ctx, req)
	if err != nil {
		if w.GetPath() == w.GetName() {
			return nil, fmt.Errorf("open %s: %w", w.GetName(), err)
		}
		return nil, fmt.Errorf("open %s (%s): %w", w.GetName(), w.GetPath(), err)
	}
	if o.Handle == nil {
		o.Handle = &pluginpb.Handle{}
	}
	o.Handle.Name, o.Handle.Kind, o.Handle.HasFd = w.GetName(), w.GetKind(), o.File != nil
	return &held{want: w, opened: o}, nil
}

// sameThing compares two wants but for the place in the configuration.
func sameThing(a, b *pluginpb.Want) bool {
	return a.GetName() == b.GetName() && a.GetKind() == b.GetKind() &&
		a.GetSelector() == b.GetSelector() && a.GetSize() == b.GetSize()
}

func sameThings(a, b []*pluginpb.Want) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if !sameThing(a[i], b[i]) {
			return false
		}
	}
	return true
}
