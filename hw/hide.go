package hw

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// lun is where the SCSI layer has a disk; ATA and USB disks have one too.
type lun struct {
	host     string // "host0"
	position string // "channel target lun", as the host's scan attribute takes it
}

// HideOthers takes all disks behind a storage controller but the one at node out of the kernel,
// until Bind of that controller scans for them again. It is for SCSI, ATA and USB, where one driver
// brings many disks; controllers whose disks cannot be taken away one by one (virtio-blk, NVMe) stay
// as they are.
func (s *System) HideOthers(place, node string) error {
	a, err := address(place)
	if err != nil {
		return fmt.Errorf("hide disks: %w", err)
	}
	var errs []error
	var hidden []lun
	for _, c := range s.children()[a] {
		if c.kind != Disk || "/dev/"+c.name == node {
			continue
		}
		l, ok := lunOf(c.path)
		if !ok {
			continue
		}
		if err := s.write(filepath.Join(c.path, "device/delete"), "1"); errors.Is(err, fs.ErrNotExist) {
			continue // not a SCSI device after all
		} else if err != nil {
			errs = append(errs, fmt.Errorf("hide disk %s: %w", c.name, err))
			continue
		}
		hidden = append(hidden, l)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hidden[a] = append(s.hidden[a], hidden...)
	return errors.Join(errs...)
}

// takeHidden returns what HideOthers took away behind a function, once.
func (s *System) takeHidden(address string) []lun {
	s.mu.Lock()
	defer s.mu.Unlock()
	hidden := s.hidden[address]
	delete(s.hidden, address)
	return hidden
}

// scan asks SCSI hosts for disks at these positions and no others: a host may have hundreds, and each
// costs a time-out.
func (s *System) scan(positions []lun) {
	for _, l := range positions {
		// The function's other disks are fine: one that does not come back is reported as missing.
		if err := s.write(filepath.Join("/sys/class/scsi_host", l.host, "scan"), l.position); err != nil {
			s.log.Warn("scan for a hidden disk", "host", l.host, "position", l.position, "err", err)
		}
	}
}

// lunOf finds the SCSI host and position in a disk's path: …/host0/target0:2:1/0:2:1:0/block/sdb.
func lunOf(path string) (l lun, ok bool) {
	for part := range strings.SplitSeq(path, "/") {
		if n, isHost := strings.CutPrefix(part, "host"); isHost && n != "" && strings.Trim(n, "0123456789") == "" {
			l.host = part
		}
		if hctl := strings.Split(part, ":"); len(hctl) == 4 && l.host == "host"+hctl[0] {
			l.position = strings.Join(hctl[1:], " ")
		}
	}
	return l, l.position != ""
}

// write sets an attribute below the root that must exist.
func (s *System) write(path, value string) error {
	f, err := os.OpenFile(filepath.Join(s.root, path), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(value)
	return errors.Join(err, f.Close())
}
