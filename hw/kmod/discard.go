package kmod

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// Discard removes the files that nobody will read again from the image's file system, which is memory: those of
// modules that are in the kernel, where they stay, and of all that the modules to keep do not need. Loading one whose
// file is gone fails. A module that is being loaded meanwhile is not in the kernel yet.
func (l *Loader) Discard(keep []string) error {
	kept := map[string]bool{}
	for _, name := range keep {
		l.require(Canonical(name), kept)
	}
	var errs []error
	for name, m := range l.closure {
		if m.Path == "" || kept[name] && !l.present(name) {
			continue
		}
		if err := os.Remove(l.path(m)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, fmt.Errorf("discard module %s: %w", name, err))
		}
	}
	return errors.Join(errs...)
}

// require adds a module and all that it depends on; ParseClosure has made sure that this ends.
func (l *Loader) require(name string, kept map[string]bool) {
	if kept[name] {
		return
	}
	kept[name] = true
	for _, dep := range l.closure[name].Depends {
		l.require(dep, kept)
	}
}
