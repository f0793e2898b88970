package notify

import "strings"

// maxMessage bounds one datagram, as systemd does.
const maxMessage = 4096

// Message is what one datagram says.
type Message struct {
	PID       int // of the sender, from the kernel
	Ready     bool
	Stopping  bool
	Reloading bool
	// Watchdog is a pet of the watchdog, Trigger the request to let it bite now.
	Watchdog, Trigger bool
	Status            string // one line for people, "" when not given
}

// Parse reads the assignments of one datagram. Unknown ones are left to those who know them.
func Parse(data string) Message {
	var m Message
	for line := range strings.SplitSeq(data, "\n") {
		name, value, ok := strings.Cut(line, "=")
		if !ok {
			continue
		}
		switch name {
		case "READY":
			m.Ready = value == "1"
		case "STOPPING":
			m.Stopping = value == "1"
		case "RELOADING":
			m.Reloading = value == "1"
		case "WATCHDOG":
			m.Watchdog, m.Trigger = value == "1", value == "trigger"
		case "STATUS":
			m.Status = strings.ToValidUTF8(value, "?")
		}
	}
	return m
}
