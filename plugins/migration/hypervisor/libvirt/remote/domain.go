package remote

import (
	"context"

	"github.com/ratchetos/ratchet/plugins/migration/hypervisor/libvirt/xdr"
)

// Domain names a VM at a daemon.
type Domain struct {
	Name string
	UUID [16]byte
	ID   int32 // -1 while it does not run
}

func (dom Domain) encode(e *xdr.Encoder) {
	e.String(dom.Name)
	e.Fixed(dom.UUID[:])
	e.Int32(dom.ID)
}

func decodeDomain(d *xdr.Decoder) Domain {
	dom := Domain{Name: d.String(maxName)}
	d.Fixed(dom.UUID[:])
	dom.ID = d.Int32()
	return dom
}

// domainSize is the least a Domain takes in an answer.
const domainSize = 4 + 16 + 4

// State of a domain, as virDomainState.
type State int32

// States of a domain.
const (
	StateNone         State = 0
	StateRunning      State = 1
	StateBlocked      State = 2
	StatePaused       State = 3
	StateShuttingDown State = 4
	StateOff          State = 5
	StateCrashed      State = 6
	StateSuspended    State = 7 // by the guest, to memory
)

// Reasons of StatePaused, as virDomainPausedReason.
const (
	PausedByUser         = 1
	PausedForMigration   = 2
	PausedByIOError      = 5
	PausedByCrash        = 10
	PausedWhileStarting  = 11
	PausedForPostCopy    = 12
	PausedPostCopyFailed = 13
)

// Flags of GetXML.
const (
	XMLSecure     = 1 << 0 // with secrets
	XMLInactive   = 1 << 1 // as it is defined, not as it runs
	XMLMigratable = 1 << 3 // as another host can take it
)

// Flags of changes to devices, vCPUs and metadata.
const (
	Live   = 1 << 0
	Config = 1 << 1
)

// Flags of Undefine: what belongs to the definition goes with it.
const undefineAll = 1<<0 | 1<<1 | 1<<2 | 1<<4

// StartPaused is a flag of Create.
const StartPaused = 1 << 0

// Domains lists the domains, those that are only defined too.
func (c *Conn) Domains(ctx context.Context) (list []Domain, err error) {
	err = c.do(ctx, connectListAllDomains, func(e *xdr.Encoder) { e.Int32(1); e.Uint32(0) }, func(d *xdr.Decoder) {
		n := d.Len(maxDomains, domainSize)
		list = make([]Domain, n)
		for i := range list {
			list[i] = decodeDomain(d)
		}
		d.Uint32()
	})
	return list, err
}

// Lookup finds a domain by its name. rpc.CodeNoDomain is not there.
func (c *Conn) Lookup(ctx context.Context, name string) (Domain, error) {
	return c.domain(ctx, domainLookupByName, func(e *xdr.Encoder) { e.String(name) })
}

// Create starts a domain that vanishes when it stops.
func (c *Conn) Create(ctx context.Context, xml string, flags uint32) (Domain, error) {
	return c.domain(ctx, domainCreateXML, func(e *xdr.Encoder) { e.String(xml); e.Uint32(flags) })
}

// Define keeps a domain's XML for its next start.
func (c *Conn) Define(ctx context.Context, xml string) (Domain, error) {
	return c.domain(ctx, domainDefineXMLFlags, func(e *xdr.Encoder) { e.String(xml); e.Uint32(0) })
}

// domain calls p, whose answer is a domain.
func (c *Conn) domain(ctx context.Context, p procedure, args func(*xdr.Encoder)) (dom Domain, err error) {
	err = c.do(ctx, p, args, func(d *xdr.Decoder) { dom = decodeDomain(d) })
	return dom, err
}

// XML describes a domain.
func (c *Conn) XML(ctx context.Context, dom Domain, flags uint32) (string, error) {
	return c.text(ctx, domainGetXML, func(e *xdr.Encoder) { dom.encode(e); e.Uint32(flags) })
}

// State of a domain, with the reason for it.
func (c *Conn) State(ctx context.Context, dom Domain) (s State, reason int32, err error) {
	err = c.do(ctx, domainGetState, func(e *xdr.Encoder) { dom.encode(e); e.Uint32(0) }, func(d *xdr.Decoder) {
		s, reason = State(d.Int32()), d.Int32()
	})
	return s, reason, err
}

// Persistent tells whether a domain is defined, and not only running.
func (c *Conn) Persistent(ctx context.Context, dom Domain) (yes bool, err error) {
	err = c.do(ctx, domainIsPersistent, dom.encode, func(d *xdr.Decoder) { yes = d.Int32() > 0 })
	return yes, err
}

// Resume lets a paused domain run.
func (c *Conn) Resume(ctx context.Context, dom Domain) error {
	return c.do(ctx, domainResume, dom.encode, nil)
}

// Suspend pauses a domain.
func (c *Conn) Suspend(ctx context.Context, dom Domain) error {
	return c.do(ctx, domainSuspend, dom.encode, nil)
}

// Destroy ends a domain's QEMU.
func (c *Conn) Destroy(ctx context.Context, dom Domain) error {
	return c.do(ctx, domainDestroyFlags, func(e *xdr.Encoder) { dom.encode(e); e.Uint32(0) }, nil)
}

// Undefine forgets a domain, with its saved image, snapshots' records and NVRAM, which have moved with it.
func (c *Conn) Undefine(ctx context.Context, dom Domain) error {
	return c.do(ctx, domainUndefineFlags, func(e *xdr.Encoder) { dom.encode(e); e.Uint32(undefineAll) }, nil)
}

// AttachDevice plugs a device. It is there when the call returns.
func (c *Conn) AttachDevice(ctx context.Context, dom Domain, xml string, flags uint32) error {
	return c.do(ctx, domainAttachDeviceFlags, change(dom, xml, flags), nil)
}

// DetachDevice asks the guest to let go of a device. That it did is told by EventDeviceRemoved.
func (c *Conn) DetachDevice(ctx context.Context, dom Domain, xml string, flags uint32) error {
	return c.do(ctx, domainDetachDeviceFlags, change(dom, xml, flags), nil)
}

// UpdateDevice changes a device in place.
func (c *Conn) UpdateDevice(ctx context.Context, dom Domain, xml string, flags uint32) error {
	return c.do(ctx, domainUpdateDeviceFlags, change(dom, xml, flags), nil)
}

func change(dom Domain, xml string, flags uint32) func(*xdr.Encoder) {
	return func(e *xdr.Encoder) { dom.encode(e); e.String(xml); e.Uint32(flags) }
}

// SetVCPUs plugs or unplugs vCPUs until there are n.
func (c *Conn) SetVCPUs(ctx context.Context, dom Domain, n, flags uint32) error {
	return c.do(ctx, domainSetVCPUsFlags, func(e *xdr.Encoder) { dom.encode(e); e.Uint32(n); e.Uint32(flags) }, nil)
}

// BlockSize is the capacity of a disk in bytes, named by its target or path.
func (c *Conn) BlockSize(ctx context.Context, dom Domain, disk string) (size uint64, err error) {
	err = c.do(ctx, domainGetBlockInfo, func(e *xdr.Encoder) { dom.encode(e); e.String(disk); e.Uint32(0) }, func(d *xdr.Decoder) {
		d.Uint64() // allocated
		size = d.Uint64()
		d.Uint64() // physical
	})
	return size, err
}

// elementMetadata is the kind of metadata that is an XML element of one's own.
const elementMetadata = 2

// SetMetadata keeps an element with a domain, under a namespace and the prefix it is printed with. Empty xml removes it.
func (c *Conn) SetMetadata(ctx context.Context, dom Domain, xml, prefix, namespace string, flags uint32) error {
	return c.do(ctx, domainSetMetadata, func(e *xdr.Encoder) {
		dom.encode(e)
		e.Int32(elementMetadata)
		e.Optional(xml)
		e.Optional(prefix)
		e.Optional(namespace)
		e.Uint32(flags)
	}, nil)
}

// Metadata is what SetMetadata kept. rpc.CodeNoMetadata is nothing.
func (c *Conn) Metadata(ctx context.Context, dom Domain, namespace string, flags uint32) (string, error) {
	return c.text(ctx, domainGetMetadata, func(e *xdr.Encoder) {
		dom.encode(e)
		e.Int32(elementMetadata)
		e.Optional(namespace)
		e.Uint32(flags)
	})
}

// Monitor sends a QMP command past libvirt, which marks the domain as tainted by it.
func (c *Conn) Monitor(ctx context.Context, dom Domain, command string) (answer string, err error) {
	err = c.call(ctx, monitorCommand, func(e *xdr.Encoder) { dom.encode(e); e.String(command); e.Uint32(0) },
		func(d *xdr.Decoder) { answer = d.String(maxText) })
	return answer, err
}

// OpenChannel connects to a virtio-serial port of a domain. force ends a connection that somebody else has to it.
func (c *Conn) OpenChannel(ctx context.Context, dom Domain, name string, force bool) (*Stream, error) {
	var e xdr.Encoder
	dom.encode(&e)
	e.Optional(name)
	e.Bool(force)
	return c.Open(ctx, domainOpenChannel.id(), e.Bytes())
}
