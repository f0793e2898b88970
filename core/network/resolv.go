package network

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/renameio/v2"
)

// The C library reads no more than three servers and six domains; so do we write no more.
const (
	maxServers = 3
	maxSearch  = 6
)

// resolvConf is the text of a resolver's configuration.
func resolvConf(servers []netip.Addr, search []string) string {
	var b strings.Builder
	b.WriteString("# written by ratchet; changes are lost\n")
	if len(search) > 0 {
		fmt.Fprintf(&b, "search %s\n", strings.Join(search[:min(len(search), maxSearch)], " "))
	}
	for _, s := range servers[:min(len(servers), maxServers)] {
		fmt.Fprintf(&b, "nameserver %s\n", s)
	}
	return b.String()
}

// writeResolvConf replaces the file as a whole: a reader sees the old one or the new one.
func writeResolvConf(path string, servers []netip.Addr, search []string) error {
	if path == "" {
		path = "/etc/resolv.conf"
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("write resolver configuration: %w", err)
	}
	if err := renameio.WriteFile(path, []byte(resolvConf(servers, search)), 0o644); err != nil {
		return fmt.Errorf("write resolver configuration: %w", err)
	}
	return nil
}

// names keeps what is a domain name. A line end smuggled into one would add lines of a DHCP
// server's choice to the file.
func names(list []string) []string {
	return slices.DeleteFunc(slices.Clone(list), func(name string) bool {
		return name == "" || len(name) > 253 || strings.Trim(strings.ToLower(name), "abcdefghijklmnopqrstuvwxyz0123456789-._") != ""
	})
}
