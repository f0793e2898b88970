package qmp

import (
	"fmt"
	"net"
	"strconv"
	"strings"
)

// ParseAddress splits "tcp:HOST:PORT" or "unix:/path" into what Dial takes.
func ParseAddress(s string) (network, address string, err error) {
	network, address, ok := strings.Cut(s, ":")
	switch {
	case ok && network == "unix" && strings.HasPrefix(address, "/"):
		return network, address, nil
	case ok && network == "tcp" && validHostPort(address):
		return network, address, nil
	}
	return "", "", fmt.Errorf("QMP address %q is neither tcp:HOST:PORT nor unix:/path", s)
}

func validHostPort(s string) bool {
	host, port, err := net.SplitHostPort(s)
	if err != nil || host == "" {
		return false
	}
	n, err := strconv.ParseUint(port, 10, 16)
	return err == nil && n > 0
}
