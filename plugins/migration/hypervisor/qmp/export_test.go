package qmp

import (
	"context"

	"github.com/ratchetos/ratchet/plugins/migration/vmhost/client"
)

// DialClient is DialVMHost over a client of the test's.
func DialClient(ctx context.Context, conf VMHost, c *client.Client) (*Port, error) {
	p := newPort(conf, c)
	return p, p.listen(ctx)
}
