package vmhost

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// rules are what the manager may make a monitor do: what moves are made of, and nothing that reads or writes other files of
// the host, or runs programs on it. QEMU itself would do all of that for whoever has its monitor.
type rules struct {
	credentials string // the only directory of keys
	address     string // the only address to listen on
}

// free are commands that touch nothing but the VM.
var free = []string{
	"block-export-del", "block-job-cancel", "block-job-complete", "block-job-dismiss", "blockdev-del", "calc-dirty-rate", "cont",
	"migrate-continue", "migrate-pause", "migrate-set-capabilities", "migrate-set-parameters", "migrate-start-postcopy",
	"migrate_cancel", "nbd-server-stop", "object-del", "qom-get", "qom-list", "stop", "system_powerdown",
}

// check says why a command is not let through.
func (r rules) check(command string, arguments json.RawMessage) error {
	if len(arguments) == 0 {
		arguments = json.RawMessage("{}")
	}
	switch {
	case slices.Contains(free, command), strings.HasPrefix(command, "query-"):
		return nil
	}
	var a struct {
		URI       string          `json:"uri"`
		QOMType   string          `json:"qom-type"`
		Dir       string          `json:"dir"`
		Property  string          `json:"property"`
		Driver    string          `json:"driver"`
		Type      string          `json:"type"`
		Addr      *socketAddress  `json:"addr"`
		TLSCreds  string          `json:"tls-creds"`
		Server    json.RawMessage `json:"server"`
		TLSVerify *bool           `json:"verify-peer"`
	}
	if err := json.Unmarshal(arguments, &a); err != nil {
		return fmt.Errorf("%s: its arguments are no object", command)
	}
	var refused string
	switch command {
	case "migrate":
		if !strings.HasPrefix(a.URI, "tcp:") {
			refused = "a VM leaves over TCP only"
		}
	case "migrate-incoming", "migrate-recover":
		if !strings.HasPrefix(a.URI, "tcp:"+r.address+":") {
			refused = "a VM arrives at " + r.address + " only"
		}
	case "nbd-server-start":
		if a.Addr == nil || a.Addr.Type != "inet" || a.Addr.Data.Host != strings.Trim(r.address, "[]") {
			refused = "disks arrive at " + r.address + " only"
		}
	case "block-export-add":
		if a.Type != "nbd" {
			refused = "disks are exported by NBD only"
		}
	case "blockdev-add":
		if a.Driver != "nbd" {
			refused = "only NBD nodes are added; local disks are plugged"
		}
	case "blockdev-mirror":
	case "object-add":
		if a.QOMType != "authz-simple" && (a.QOMType != "tls-creds-x509" || a.Dir != r.credentials || a.TLSVerify != nil && !*a.TLSVerify) {
			refused = "only the host's own credentials are added, and they verify their peer"
		}
	case "qom-set":
		if a.Property != "requested-size" {
			refused = "only requested-size is set"
		}
	default:
		refused = "it is not among the commands that moves need"
	}
	if refused != "" {
		return errors.New(command + " is not let through: " + refused)
	}
	return nil
}

type socketAddress struct {
	Type string `json:"type"`
	Data struct {
		Host string `json:"host"`
	} `json:"data"`
}
