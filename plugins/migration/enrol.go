package migration

import (
	"context"
	"fmt"

	"github.com/ratchetos/ratchet/plugins/migration/api"
)

// enroll answers api.MethodEnroll. Only hosts of the configuration are enrolled: a file under another name would be of no
// use, and be found out on the host only.
func (m *mover) enroll(ctx context.Context, req api.HostRequest) (any, error) {
	_, rows := m.f.snapshot()
	for _, r := range rows {
		if r.conf.Name == req.Name && r.conf.VMHost != "" {
			bundle, err := m.authority.Enroll(ctx, req.Name)
			return api.EnrollReply{Bundle: string(bundle)}, err
		}
	}
	return nil, fmt.Errorf("no host %q with vmhost in the configuration: enter it there first", req.Name)
}

// revoke answers api.MethodRevoke.
func (m *mover) revoke(ctx context.Context, req api.HostRequest) (any, error) {
	return none{}, m.authority.Revoke(ctx, req.Name)
}
