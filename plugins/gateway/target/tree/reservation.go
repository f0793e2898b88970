package tree

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Reservation is one registration for persistent reservations, as fields in the order of LIO's file.
type Reservation struct{ fields []string }

// knownFields are those that LIO writes and takes back.
var knownFields = []string{
	"initiator_fabric", "initiator_node", "initiator_sid", "sa_res_key", "res_holder", "res_type", "res_scope",
	"res_all_tg_pt", "mapped_lun", "target_fabric", "target_node", "tpgt", "port_rtpi", "target_lun",
}

const (
	// maxReservations bounds what is read of one file: an initiator and portal each has one.
	maxReservations = 1024
	// maxMetadata is what one write to an attribute can carry.
	maxMetadata = 4096
)

// ErrTorn means that LIO had not written all of the file: it is writing now, or the power went away meanwhile.
var ErrTorn = errors.New("read reservations: the file is not complete")

// ParseReservations reads the file in which LIO keeps the registrations that initiators asked it to keep through loss of
// power (APTPL, SPC-4 5.12.5). LIO writes it and does not read it back: that is left to whoever makes the backstore. It
// empties the file and writes all of it, with a NUL at the end; without registrations it says so. Anything less is ErrTorn.
func ParseReservations(text string) ([]Reservation, error) {
	text, complete := strings.CutSuffix(text, "\x00")
	if !complete || text == "" || strings.Contains(text, "\x00") {
		return nil, ErrTorn
	}
	var out []Reservation
	var current *Reservation
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		switch name, value, ok := strings.Cut(line, "="); {
		case line == "" || line == "No Registrations or Reservations":
		case strings.HasPrefix(line, "PR_REG_START: "):
			if current != nil {
				return nil, fmt.Errorf("read reservations: one begins inside another")
			}
			current = new(Reservation)
		case strings.HasPrefix(line, "PR_REG_END: "):
			if current == nil || len(out) == maxReservations {
				return nil, fmt.Errorf("read reservations: one ends that did not begin, or there are more than %d", maxReservations)
			}
			if len(current.metadata()) > maxMetadata {
				return nil, fmt.Errorf("read reservations: one is longer than %d bytes", maxMetadata)
			}
			out, current = append(out, *current), nil
		case current != nil && ok && slices.Contains(knownFields, name) && !strings.ContainsAny(value, ",\x00"):
			current.fields = append(current.fields, name+"="+value)
		default:
			return nil, fmt.Errorf("read reservations: %q is no line of LIO's", line)
		}
	}
	if current != nil {
		return nil, fmt.Errorf("read reservations: the file ends inside of one")
	}
	return out, nil
}

// metadata is how the backstore takes a registration back.
func (r Reservation) metadata() string { return strings.Join(r.fields, ",") }
