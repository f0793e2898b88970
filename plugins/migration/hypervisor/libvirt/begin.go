package libvirt

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"

	"github.com/ratchetos/ratchet/plugins/migration/hypervisor"
	"github.com/ratchetos/ratchet/plugins/migration/hypervisor/libvirt/domxml"
	"github.com/ratchetos/ratchet/plugins/migration/hypervisor/libvirt/remote"
	"github.com/ratchetos/ratchet/plugins/migration/hypervisor/libvirt/rpc"
	"github.com/ratchetos/ratchet/plugins/migration/model"
)

// ticket is what hypervisor.Ticket.Cookie holds: the source's daemon speaking to the target's.
type ticket struct {
	XML    string      `json:"xml"`
	Cookie []byte      `json:"cookie"`
	Flags  uint32      `json:"flags"`
	Shape  model.Shape `json:"shape"` // as the VM is at the source
	// Mirrored are the disks whose bytes are sent, by their names at libvirt.
	Mirrored []string `json:"mirrored,omitempty"`
}

// Begin implements hypervisor.Port.
func (p *Port) Begin(ctx context.Context, m hypervisor.Move) (hypervisor.Ticket, error) {
	t, err := p.begin(ctx, m)
	if err != nil {
		return hypervisor.Ticket{}, fmt.Errorf("begin move of %s from %s: %w", m.VM, p.conf.Name, err)
	}
	return hypervisor.Ticket{Shape: m.Shape, Cookie: t}, nil
}

func (p *Port) begin(ctx context.Context, m hypervisor.Move) ([]byte, error) {
	dom, err := p.active(ctx, m.VM)
	if err != nil {
		return nil, err
	}
	if _, err := p.fenced(ctx, dom, m); err != nil {
		return nil, err
	}
	if d := p.moves.departure(m.ID, p.conf.Name); d != nil {
		return d.ticket, nil
	}
	state, word, err := p.state(ctx, dom)
	if err != nil {
		return nil, err
	}
	if state != hypervisor.Running {
		return nil, fmt.Errorf("it is %s (%s), and only a VM that runs can move", state, word)
	}
	now, doc, err := p.describe(ctx, dom)
	if err != nil {
		return nil, err
	}
	if err := domxml.SameHardware(now, m.Shape); err != nil {
		return nil, err
	}
	if err := p.setMark(ctx, dom, markOf(m)); err != nil {
		return nil, err
	}
	t := ticket{Shape: now, Flags: remote.MigrateLive | remote.MigrateChangeProtection}
	for i, target := range domxml.DiskTargets(doc) {
		if m.Shape.Disks[i].Source.Local != "" {
			t.Mirrored = append(t.Mirrored, target)
			t.Flags |= remote.MigrateNonSharedDisk
		}
	}
	return p.protect(ctx, m, dom, t)
}

// protect begins the migration at the daemon, on a connection of its own.
func (p *Port) protect(ctx context.Context, m hypervisor.Move, dom remote.Domain, t ticket) ([]byte, error) {
	persistent, err := p.conn.Persistent(ctx, dom)
	if err != nil {
		return nil, err
	}
	if persistent {
		t.Flags |= remote.MigratePersist | remote.MigrateUndefine // it shall be defined in one place
	}
	conn, err := p.connect(ctx)
	if err != nil {
		return nil, err
	}
	t.XML, t.Cookie, err = conn.MigrateBegin(ctx, dom, t.params(), t.Flags)
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	text, err := json.Marshal(t)
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	p.moves.depart(m.ID, &departure{host: p.conf.Name, conn: conn, dom: dom, ticket: text})
	return text, nil
}

// params name the disks that are mirrored. Without any nothing is said: an empty choice would be all that libvirt takes for
// local.
func (t ticket) params() (p remote.Params) {
	for _, disk := range t.Mirrored {
		p = append(p, remote.Param{Name: remote.ParamDisk, Value: disk})
	}
	return p
}

// Prepare implements hypervisor.Port. The destination is made ready for a stream with TLS and no post-copy; Perform makes
// another if it is asked for something else.
func (p *Port) Prepare(ctx context.Context, m hypervisor.Move, t hypervisor.Ticket) (hypervisor.Arrival, error) {
	a, err := p.prepare(ctx, m, t)
	if err != nil {
		return hypervisor.Arrival{}, fmt.Errorf("prepare %s for %s: %w", p.conf.Name, m.VM, err)
	}
	return a, nil
}

func (p *Port) prepare(ctx context.Context, m hypervisor.Move, t hypervisor.Ticket) (none hypervisor.Arrival, err error) {
	if err := p.vacant(ctx, m); err != nil {
		return none, err
	}
	if t.Shape.Digest() != m.Shape.Digest() {
		return none, errors.New("the ticket is for another shape than the move")
	}
	a := &arrival{port: p, host: p.conf.Name, vm: m.VM, armed: armament{plain: p.conf.Plain}}
	if err := json.Unmarshal(t.Cookie, &a.ticket); err != nil || a.ticket.XML == "" {
		return none, fmt.Errorf("the ticket is not of a libvirt host: VMs move between hosts of one kind only: %w", errors.Join(err, hypervisor.ErrNotHere))
	}
	doc, err := domxml.Parse(a.ticket.XML)
	if err != nil {
		return none, err
	}
	doc, err = domxml.Retarget(doc, a.ticket.Shape, m.Shape, p.conf.Networks)
	if err != nil {
		return none, err
	}
	a.xml = doc.String()
	if err := p.receive(ctx, m, a, a.armed); err != nil {
		return none, err
	}
	at, err := url.Parse(a.uri)
	if err != nil {
		return none, fmt.Errorf("the daemon listens at %q: %w", a.uri, err)
	}
	return hypervisor.Arrival{Address: "tcp:" + at.Host}, nil
}

// vacant makes room: what an earlier try of the same move has left is discarded, anything else is in the way.
func (p *Port) vacant(ctx context.Context, m hypervisor.Move) error {
	dom, err := p.active(ctx, m.VM)
	if gone(err) {
		return nil
	}
	if err != nil {
		return err
	}
	k, err := p.fenced(ctx, dom, m)
	if err != nil {
		return err
	}
	if k.ID != m.ID || k.To != p.conf.Name || k.Arrived {
		return errors.New("the host has a VM of that name already")
	}
	return p.discard(ctx, m, dom)
}

// receive starts a destination that is armed as asked, in the place of the one that there is.
func (p *Port) receive(ctx context.Context, m hypervisor.Move, a *arrival, want armament) error {
	conn, err := p.connect(ctx)
	if err != nil {
		return err
	}
	params := append(a.ticket.params(), remote.Param{Name: remote.ParamDestinationXML, Value: a.xml})
	if p.conf.Stream != "" {
		host := p.conf.Stream
		if strings.Contains(host, ":") {
			host = "[" + host + "]"
		}
		params = append(params, remote.Param{Name: remote.ParamURI, Value: "tcp://" + host})
	}
	if p.conf.Listen != "" {
		params = append(params, remote.Param{Name: remote.ParamListen, Value: p.conf.Listen})
	}
	uri, cookie, err := conn.MigratePrepare(ctx, append(params, want.params()...), a.ticket.Cookie, a.ticket.Flags|want.flags())
	if err != nil {
		return errors.Join(explain(err, p.conf.Name), conn.Close())
	}
	if a.conn != nil {
		_ = a.conn.Close()
	}
	a.conn, a.armed, a.uri, a.cookie = conn, want, uri, cookie
	if a.tlsName = p.conf.StreamName; a.tlsName == "" && net.ParseIP(p.conf.Stream) == nil {
		a.tlsName = p.conf.Stream
	}
	p.moves.arrive(m.ID, a)
	return nil
}

// flags of a destination and of the transfer to it.
func (a armament) flags() (f uint32) {
	if !a.plain {
		f |= remote.MigrateTLS
	}
	if a.postCopy {
		f |= remote.MigratePostCopy
	}
	if a.channels > 1 {
		f |= remote.MigrateParallel
	}
	return f
}

func (a armament) params() (p remote.Params) {
	if a.channels > 1 {
		p = append(p, remote.Param{Name: remote.ParamChannels, Value: int32(a.channels)})
	}
	return p
}

// explain adds to a daemon's refusal what to do about it.
func explain(err error, host string) error {
	switch s := err.Error(); {
	case strings.Contains(s, "TLS") && strings.Contains(s, "not configured"), strings.Contains(s, "Unable to access credentials"):
		return fmt.Errorf("%w: set migrate_tls_x509_cert_dir in qemu.conf of %s, or allow plain moves by policy", err, host)
	case strings.Contains(s, "ostcopy") || strings.Contains(s, "post-copy") || strings.Contains(s, "userfault"):
		return fmt.Errorf("%w: QEMU of %s needs userfaultfd (sysctl vm.unprivileged_userfaultfd=1): %w", err, host, hypervisor.ErrNotHere)
	case strings.Contains(s, "Address already in use"):
		return fmt.Errorf("%w: set migration_port_min and migration_port_max in qemu.conf of %s to ports outside of net.ipv4.ip_local_port_range", err, host)
	case rpc.IsCode(err, rpc.CodeTimeout):
		return fmt.Errorf("%w: another job of libvirt holds the VM; see virsh domjobinfo", err)
	}
	return err
}
