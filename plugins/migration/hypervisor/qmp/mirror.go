package qmp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/ratchetos/ratchet/plugins/migration/hypervisor"
	"github.com/ratchetos/ratchet/plugins/migration/model"
	"github.com/ratchetos/ratchet/plugins/migration/vmhost/args"
	"github.com/ratchetos/ratchet/plugins/migration/vmhost/client"
)

// Local disks are copied while the VM runs: the destination exports its empty ones by NBD, the source mirrors into them, and
// both are the same from then on. At the switch the mirror ends with everything written.

// mirrorJob names the job and the node of a disk's mirror.
func mirrorJob(disk string) string { return "mirror-" + disk }

// openTimeout is how long the connection of a mirror may take, in seconds: QEMU waits for it with its guest standing still,
// without it for as long as the destination likes.
const openTimeout = 2

// portTries bounds the search for a free port.
const portTries = 32

// exportDisks starts the NBD server of a destination with local disks.
func (p *Port) exportDisks(ctx context.Context, m hypervisor.Move, info client.Host) (map[string]string, error) {
	var exports map[string]string
	for _, d := range m.Shape.Disks {
		if d.Source.Local == "" {
			continue
		}
		if exports == nil {
			exports = map[string]string{}
		}
		exports[d.ID] = ""
	}
	if exports == nil {
		return nil, nil
	}
	host := strings.Trim(info.Address, "[]")
	port, err := p.nbdServer(ctx, m.VM, host, info)
	if err != nil {
		return nil, err
	}
	for disk := range exports {
		err := p.do(ctx, m.VM, "block-export-add", map[string]any{
			"type": "nbd", "id": "export-" + disk, "node-name": args.NodeID(disk), "name": disk, "writable": true,
		}, nil)
		if err != nil {
			return nil, err
		}
		exports[disk] = "nbd://" + net.JoinHostPort(host, strconv.Itoa(port)) + "/" + disk
	}
	return exports, nil
}

func (p *Port) nbdServer(ctx context.Context, vm, host string, info client.Host) (port int, err error) {
	for port = info.LastPort; port >= info.FirstPort && port > info.LastPort-portTries; port-- {
		a := map[string]any{"addr": map[string]any{"type": "inet", "data": map[string]any{"host": host, "port": strconv.Itoa(port)}}}
		if !p.conf.Plain {
			a["tls-creds"], a["tls-authz"] = serverCredentials, sourceOnly
		}
		err = p.do(ctx, vm, "nbd-server-start", a, nil)
		var refused *Error
		if err == nil || !errors.As(err, &refused) || !strings.Contains(refused.Desc, "in use") {
			return port, err
		}
	}
	return 0, fmt.Errorf("no free port for disks from %d to %d: %w", info.FirstPort, info.LastPort, err)
}

// stopExports ends the NBD server of a destination; done before is fine.
func (p *Port) stopExports(ctx context.Context, m hypervisor.Move) error {
	if !slices.ContainsFunc(m.Shape.Disks, func(d model.Disk) bool { return d.Source.Local != "" }) {
		return nil
	}
	err := p.do(ctx, m.VM, "nbd-server-stop", nil, nil)
	var refused *Error
	if errors.As(err, &refused) {
		return nil
	}
	return err
}

// mirror starts to copy the source's local disks into the exports of an arrival.
func (p *Port) mirror(ctx context.Context, m hypervisor.Move, exports map[string]string, limits hypervisor.Limits) error {
	for disk, export := range exports {
		u, err := url.Parse(export)
		if err != nil || u.Scheme != "nbd" {
			return fmt.Errorf("mirror disk %s: %q is no NBD export", disk, export)
		}
		node := map[string]any{
			"driver": "nbd", "node-name": mirrorJob(disk), "export": strings.TrimPrefix(u.Path, "/"),
			"server":       map[string]any{"type": "inet", "host": u.Hostname(), "port": u.Port()},
			"open-timeout": openTimeout,
		}
		if !p.conf.Plain {
			node["tls-creds"], node["tls-hostname"] = clientCredentials, m.To
		}
		if err := p.do(ctx, m.VM, "blockdev-add", node, nil); err != nil {
			return err
		}
		err = p.do(ctx, m.VM, "blockdev-mirror", map[string]any{
			"job-id": mirrorJob(disk), "device": args.NodeID(disk), "target": mirrorJob(disk), "sync": "full", "speed": limits.Bandwidth,
			// A guest that writes fast must not keep the mirror from coming to an end.
			"copy-mode": "write-blocking", "on-target-error": "report", "auto-finalize": true, "auto-dismiss": true,
		}, nil)
		if err != nil {
			return err
		}
	}
	return nil
}

// blockJob is one of query-block-jobs.
type blockJob struct {
	Device string // the job's ID
	Ready  bool
	Len    uint64
	Offset uint64
	Status string
}

func (p *Port) mirrors(ctx context.Context, vm string) ([]blockJob, error) {
	var all, ours []blockJob
	if err := p.do(ctx, vm, "query-block-jobs", nil, &all); err != nil {
		return nil, err
	}
	for _, j := range all {
		if strings.HasPrefix(j.Device, mirrorJob("")) {
			ours = append(ours, j)
		}
	}
	return ours, nil
}

// mirrored tells whether all of so many mirrors are complete. One that is missing has failed.
func (p *Port) mirrored(ctx context.Context, vm string, count int) (bool, []blockJob, error) {
	jobs, err := p.mirrors(ctx, vm)
	if err == nil && len(jobs) < count {
		err = errors.New("a disk could not be mirrored: the link or the destination's disk has failed")
	}
	for _, j := range jobs {
		if !j.Ready {
			return false, jobs, err
		}
	}
	return err == nil, jobs, err
}

// finishMirrors ends mirrors that are complete, with the source stopped: the destination has every byte then.
func (p *Port) finishMirrors(ctx context.Context, vm string, count int) error {
	ready, jobs, err := p.mirrored(ctx, vm, count)
	if err == nil && !ready {
		err = errors.New("a mirror has fallen behind")
	}
	if err != nil {
		return err
	}
	return p.endMirrors(ctx, vm, jobs, false)
}

// dropMirrors ends what there is of them, in whatever state.
func (p *Port) dropMirrors(ctx context.Context, vm string) error {
	jobs, err := p.mirrors(ctx, vm)
	if err != nil {
		return err
	}
	if err := p.endMirrors(ctx, vm, jobs, true); err != nil {
		return err
	}
	// A node whose job was never begun, or has failed.
	var nodes []struct {
		Name string `json:"node-name"`
	}
	if err := p.do(ctx, vm, "query-named-block-nodes", map[string]any{"flat": true}, &nodes); err != nil {
		return err
	}
	for _, n := range nodes {
		if strings.HasPrefix(n.Name, mirrorJob("")) {
			if err := p.do(ctx, vm, "blockdev-del", map[string]any{"node-name": n.Name}, nil); err != nil {
				return err
			}
		}
	}
	return nil
}

func (p *Port) endMirrors(ctx context.Context, vm string, jobs []blockJob, force bool) error {
	for _, j := range jobs {
		err := p.do(ctx, vm, "block-job-cancel", map[string]any{"device": j.Device, "force": force}, nil)
		var refused *Error
		if err != nil && (!errors.As(err, &refused) || refused.Class != "DeviceNotActive") {
			return err
		}
	}
	err := p.await(ctx, func() (bool, error) {
		left, err := p.mirrors(ctx, vm)
		return len(left) == 0, err
	})
	for _, j := range jobs {
		if err == nil {
			err = p.do(ctx, vm, "blockdev-del", map[string]any{"node-name": j.Device}, nil)
		}
	}
	return err
}
