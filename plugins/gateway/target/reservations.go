package target

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/ratchetos/ratchet/plugins/gateway/api"
	"github.com/ratchetos/ratchet/plugins/gateway/target/exports"
	"github.com/ratchetos/ratchet/plugins/gateway/target/tree"
)

// LIO may be writing the file while it is read: it is complete soon, or it was torn when the power went away.
const (
	looks    = 10
	lookWait = 100 * time.Millisecond
)

// kept are the reservations of a disk that LIO has written down. Without those that initiators rely on it must not be
// exported: two of them could write. No file means that there have never been any, or that somebody has cleared them.
func (s *service) kept(e exports.Export) (list []tree.Reservation, err error) {
	if e.Protocol != exports.ProtocolISCSI {
		return nil, nil
	}
	path := s.file(e)
	for range looks {
		list, err = readReservations(path)
		if !errors.Is(err, tree.ErrTorn) {
			break
		}
		sleep(s.ctx, lookWait)
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return list, nil
}

// withoutReservations says what to do about a disk whose reservations are not known. While it is exported the kernel has them.
func withoutReservations(volume string, exported bool, err error) string {
	if exported {
		return fmt.Sprintf("only the kernel has its persistent reservations, and a restarted box would not export the disk (%v): "+
			"any change of them by an initiator writes them down anew", err)
	}
	return fmt.Sprintf("the disk is not exported without its persistent reservations (%v): "+
		"stop all its initiators, then: ratchetctl volume reservations clear %s --yes; they reserve anew", err, volume)
}

func (s *service) file(e exports.Export) string {
	return filepath.Join(s.reservations, "aptpl_"+e.UUID.String())
}

func readReservations(path string) ([]tree.Reservation, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return tree.ParseReservations(string(text))
}

// forget removes LIO's file of a disk that the kernel does not have: what it has in memory would stay, and be written again.
// Only run calls it, see between.
func (s *service) forget(volume string, force bool) (gone api.ClearedReservations, err error) {
	e, err := s.disk(volume)
	if err != nil {
		return gone, err
	}
	have, err := s.tree.Read(nil)
	if err != nil {
		return gone, err
	}
	if have.Dirs[tree.Store(e)] {
		return gone, fmt.Errorf("the kernel has the disk of volume %s with its reservations: initiators clear them themselves, "+
			"as with sg_persist --out --clear", volume)
	}
	gone.File = s.file(e)
	list, err := readReservations(gone.File)
	switch gone.Registrations = len(list); {
	case errors.Is(err, fs.ErrNotExist) || err == nil && len(list) == 0:
		return gone, fmt.Errorf("no reservations of volume %s are kept: nothing is removed", volume)
	case err != nil:
		gone.Problem = err.Error()
	case !force:
		return gone, fmt.Errorf("the reservations of volume %s can be read, and initiators may rely on them (registrations: %d): "+
			"--force gives them up", volume, len(list))
	}
	if err := removeDurably(gone.File); err != nil {
		return gone, fmt.Errorf("remove reservations of volume %s: %w", volume, err)
	}
	s.log.Warn("reservations were cleared", "volume", volume, "file", gone.File, "registrations", gone.Registrations, "problem", gone.Problem)
	return gone, nil
}

// disk finds the export of a volume whose reservations LIO keeps.
func (s *service) disk(volume string) (exports.Export, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.list {
		if e.Volume == volume && e.Protocol == exports.ProtocolISCSI {
			return e, nil
		}
	}
	return exports.Export{}, fmt.Errorf("no volume %q is exported over iSCSI: see ratchetctl plugin show target", volume)
}

func removeDurably(path string) error {
	if err := os.Remove(path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
