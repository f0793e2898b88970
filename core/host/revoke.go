package host

import "errors"

// Revoke closes core's end of a thing that is gone, a device that was pulled, and takes it out of what
// the plugins hold. It returns the plugins that had it. They run on: what they do on it fails, and what
// else they serve goes on. After a Restart they get it anew if it is there again.
func (h *Host) Revoke(id string) (plugins []string, err error) {
	for _, name := range h.names() {
		had, e := h.units[name].handles.revoke(id)
		if had {
			plugins = append(plugins, name)
		}
		err = errors.Join(err, e)
	}
	return plugins, err
}

func (s *handleSet) revoke(id string) (had bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, h := range s.open {
		if h.opened.Handle.GetId() == id {
			had = true
			err = errors.Join(err, s.close(name))
		}
	}
	return had, err
}
