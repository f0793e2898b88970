package api

import (
	"net/netip"
	"strconv"
	"strings"
)

// LeaseColumns head Lease.Cells.
func LeaseColumns() []string {
	return []string{"SERVICE", "PRODUCER", "CONSUMER", "EPOCH", "LEFT", "NOTE"}
}

// Cells are a lease's line in a table.
func (l Lease) Cells() []string {
	note := ""
	if l.Ending {
		note = "ending"
	}
	return []string{l.Service, l.Producer, l.Consumer, number(l.Epoch), l.Left, note}
}

// ProducerColumns head Service.Rows.
func ProducerColumns() []string {
	return []string{"SERVICE", "ADDRESSES", "PRODUCER", "STATE", "LEASED", "SHARE", "HOST", "AT", "EPOCH"}
}

// Rows are a service's lines in a table of producers.
func (s Service) Rows() [][]string {
	at := join(s.Addresses)
	if len(s.Producers) == 0 {
		return [][]string{{s.Name, at, "-", "", "", "", "", "", ""}}
	}
	var out [][]string
	for _, p := range s.Producers {
		out = append(out, []string{
			s.Name, at, p.Name, p.State, number(uint64(p.Leased)), number(uint64(p.Share)), p.Host, p.At.String(), number(p.Epoch),
		})
	}
	return out
}

// ServiceColumns head Service.Cells.
func ServiceColumns() []string {
	return []string{"SERVICE", "ADDRESSES", "VNI", "TTL", "CONSUMERS", "LEASED", "SHARE", "DENIED", "NOTE"}
}

// Cells are a service's line in a table of services.
func (s Service) Cells() []string {
	note := ""
	if s.Recovering {
		note = "after a restart: renewals only"
	}
	return []string{
		s.Name, join(s.Addresses), number(uint64(s.VNI)), s.TTL, strconv.Itoa(s.Consumers), number(s.Leased), number(s.Share), number(s.Denied), note,
	}
}

func join(addresses []netip.Addr) string {
	var out []string
	for _, a := range addresses {
		out = append(out, a.String())
	}
	return strings.Join(out, " ")
}

func number(v uint64) string { return strconv.FormatUint(v, 10) }
