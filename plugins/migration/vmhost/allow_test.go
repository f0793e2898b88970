package vmhost

import (
	"encoding/json"
	"strings"
	"testing"
)

// TestRules: what moves need is let through, and what would reach past the VM is not.
func TestRules(t *testing.T) {
	r := rules{credentials: "/h/tls", address: "10.0.0.1"}
	for _, c := range []struct {
		line string
		why  string // "" is let through
	}{
		{`query-status`, ""},
		{`cont`, ""},
		{`migrate {"uri": "tcp:10.0.0.2:49152"}`, ""},
		{`migrate {"uri": "exec:cat > /etc/passwd"}`, "TCP only"},
		{`migrate {"uri": "fd:3"}`, "TCP only"},
		{`migrate {}`, "TCP only"},
		{`migrate-incoming {"uri": "tcp:10.0.0.1:49152,to=49407"}`, ""},
		{`migrate-incoming {"uri": "tcp:0.0.0.0:49152"}`, "10.0.0.1 only"},
		{`migrate-incoming {"uri": "exec:sh"}`, "10.0.0.1 only"},
		{`migrate-recover {"uri": "exec:sh"}`, "10.0.0.1 only"},
		{`nbd-server-start {"addr": {"type": "inet", "data": {"host": "10.0.0.1", "port": "1"}}}`, ""},
		{`nbd-server-start {"addr": {"type": "inet", "data": {"host": "", "port": "1"}}}`, "10.0.0.1 only"},
		{`nbd-server-start {"addr": {"type": "unix", "data": {"path": "/x"}}}`, "10.0.0.1 only"},
		{`block-export-add {"type": "nbd", "id": "x", "node-name": "disk-d0"}`, ""},
		{`block-export-add {"type": "fuse", "id": "x", "mountpoint": "/etc/passwd"}`, "NBD only"},
		{`blockdev-add {"driver": "nbd", "node-name": "x"}`, ""},
		{`blockdev-add {"driver": "file", "filename": "/etc/shadow"}`, "only NBD"},
		{`object-add {"qom-type": "authz-simple", "id": "a", "identity": "CN=b"}`, ""},
		{`object-add {"qom-type": "tls-creds-x509", "id": "a", "dir": "/h/tls", "endpoint": "server", "verify-peer": true}`, ""},
		{`object-add {"qom-type": "tls-creds-x509", "id": "a", "dir": "/h/tls", "verify-peer": false}`, "verify"},
		{`object-add {"qom-type": "tls-creds-x509", "id": "a", "dir": "/etc/ssl"}`, "own credentials"},
		{`object-add {"qom-type": "memory-backend-file", "id": "a", "mem-path": "/etc/passwd"}`, "own credentials"},
		{`object-add {"qom-type": "tls-creds-x509", "id": "a", "Dir": "/h/tls", "dir": "/etc/ssl"}`, "own credentials"},
		{`qom-set {"path": "/machine/peripheral/vm0", "property": "requested-size", "value": 0}`, ""},
		{`qom-set {"path": "/objects/x", "property": "filename", "value": "/etc/passwd"}`, "requested-size"},
		{`human-monitor-command {"command-line": "migrate exec:sh"}`, "not among"},
		{`device_add {"driver": "vfio-pci"}`, "not among"},
		{`quit`, "not among"},
		{`qmp_capabilities`, "not among"},
		{`cont []`, ""}, // QEMU itself says what it thinks of it
		{`migrate []`, "no object"},
	} {
		command, arguments, _ := strings.Cut(c.line, " ")
		err := r.check(command, json.RawMessage(arguments))
		if (err == nil) != (c.why == "") || err != nil && !strings.Contains(err.Error(), c.why) {
			t.Errorf("%s: %v, want %q", c.line, err, c.why)
		}
	}
}
