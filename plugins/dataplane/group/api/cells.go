package api

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// MemberColumns are the table of members, on page, console and command line.
func MemberColumns() []string {
	return []string{"GROUP", "ADDRESSES", "MEMBER", "STATE", "SHARE", "VNI", "HOST"}
}

// Rows are a group's lines in that table; a group without members has one.
func (g Group) Rows() [][]string {
	var addresses []string
	for _, a := range g.Addresses {
		addresses = append(addresses, a.String())
	}
	at := strings.Join(addresses, " ")
	if len(g.Members) == 0 {
		return [][]string{{g.Name, at, "-", "", "", "", ""}}
	}
	var out [][]string
	for _, m := range g.Members {
		host := "-"
		if m.Host.IsValid() {
			host = m.Host.String()
		}
		out = append(out, []string{g.Name, at, m.Name, m.State, fmt.Sprintf("%.1f%%", 100*m.Share), strconv.FormatUint(uint64(m.VNI), 10), host})
	}
	return out
}

// ClientColumns are the table of clients.
func ClientColumns() []string {
	return []string{"HOST", "VERSION", "CONFIRMED", "SENT", "DROPPED", "NOTES"}
}

// Cells are a client's line in that table.
func (c Client) Cells() []string {
	var notes []string
	if c.Lapsed {
		notes = append(notes, "its lease has run out: it sends nothing to closed groups")
	}
	for _, name := range slices.Sorted(maps.Keys(c.Outcomes)) {
		notes = append(notes, fmt.Sprintf("%s %d", name, c.Outcomes[name]))
	}
	return []string{
		c.Host, c.Applied, c.Confirmed.Truncate(100*time.Millisecond).String() + " ago",
		strconv.FormatUint(c.Sent, 10), strconv.FormatUint(c.Dropped, 10), strings.Join(notes, ", "),
	}
}
