package remote

import (
	"context"

	"github.com/ratchetos/ratchet/plugins/migration/hypervisor/libvirt/xdr"
)

// Flags of a migration, as virDomainMigrateFlags. Each phase is told all of them.
const (
	MigrateLive             = 1 << 0
	MigratePersist          = 1 << 3 // the destination keeps the definition
	MigrateUndefine         = 1 << 4 // the source forgets it
	MigratePaused           = 1 << 5 // the destination stays stopped
	MigrateNonSharedDisk    = 1 << 6 // disks are mirrored
	MigrateChangeProtection = 1 << 8 // from Begin on nobody else changes the domain
	MigrateAutoConverge     = 1 << 13
	MigratePostCopy         = 1 << 15
	MigrateTLS              = 1 << 16
	MigrateParallel         = 1 << 17
)

// speedOfPostCopy is VIR_DOMAIN_MIGRATE_MAX_SPEED_POSTCOPY.
const speedOfPostCopy = 1 << 0

// Names of parameters of a migration.
const (
	ParamURI            = "migrate_uri"
	ParamDestinationXML = "destination_xml"
	ParamPersistentXML  = "persistent_xml"
	ParamBandwidth      = "bandwidth" // MiB a second
	ParamRest           = "bandwidth.postcopy"
	ParamListen         = "listen_address"
	ParamDisk           = "migrate_disks" // once for each disk to mirror
	ParamThrottle       = "auto_converge.initial"
	ParamThrottleStep   = "auto_converge.increment"
	ParamChannels       = "parallel.connections"
	ParamTLSName        = "tls.destination"
)

// MigrateBegin is the first phase, at the source: it returns the domain's XML and a cookie for the destination.
func (c *Conn) MigrateBegin(ctx context.Context, dom Domain, p Params, flags uint32) (xml string, cookie []byte, err error) {
	err = c.do(ctx, domainMigrateBegin, func(e *xdr.Encoder) { dom.encode(e); p.encode(e); e.Uint32(flags) }, func(d *xdr.Decoder) {
		cookie, xml = d.Opaque(maxCookie), d.String(maxText)
	})
	return xml, cookie, err
}

// MigratePrepare is the second, at the destination: it starts a QEMU that listens at uri.
func (c *Conn) MigratePrepare(ctx context.Context, p Params, in []byte, flags uint32) (uri string, cookie []byte, err error) {
	err = c.do(ctx, domainMigratePrepare, func(e *xdr.Encoder) { p.encode(e); e.Opaque(in); e.Uint32(flags) }, func(d *xdr.Decoder) {
		cookie, uri = d.Opaque(maxCookie), d.Optional(maxText)
	})
	return uri, cookie, err
}

// MigratePerform is the third, at the source: it returns when everything has been sent and the source is stopped, or, with
// MigratePostCopy, when the destination can run without the rest.
func (c *Conn) MigratePerform(ctx context.Context, dom Domain, p Params, in []byte, flags uint32) (cookie []byte, err error) {
	err = c.do(ctx, domainMigratePerform, func(e *xdr.Encoder) {
		dom.encode(e)
		e.Optional("") // no daemon of the destination for the source to talk to
		p.encode(e)
		e.Opaque(in)
		e.Uint32(flags)
	}, func(d *xdr.Decoder) { cookie = d.Opaque(maxCookie) })
	return cookie, err
}

// MigrateFinish is the fourth, at the destination: the domain becomes one like any other there, or, cancelled, ends.
func (c *Conn) MigrateFinish(ctx context.Context, p Params, in []byte, flags uint32, cancelled bool) (dom Domain, cookie []byte, err error) {
	err = c.do(ctx, domainMigrateFinish, func(e *xdr.Encoder) { p.encode(e); e.Opaque(in); e.Uint32(flags); e.Bool(cancelled) }, func(d *xdr.Decoder) {
		dom, cookie = decodeDomain(d), d.Opaque(maxCookie)
	})
	return dom, cookie, err
}

// MigrateConfirm is the fifth, at the source: the domain ends, or, cancelled, runs on.
func (c *Conn) MigrateConfirm(ctx context.Context, dom Domain, p Params, in []byte, flags uint32, cancelled bool) error {
	return c.do(ctx, domainMigrateConfirm, func(e *xdr.Encoder) {
		dom.encode(e)
		p.encode(e)
		e.Opaque(in)
		e.Uint32(flags)
		e.Bool(cancelled)
	}, nil)
}

// MigratePostCopyNow stops the source and leaves the rest of its memory to be fetched. It needs MigratePostCopy.
func (c *Conn) MigratePostCopyNow(ctx context.Context, dom Domain) error {
	return c.do(ctx, domainMigratePostCopy, func(e *xdr.Encoder) { dom.encode(e); e.Uint32(0) }, nil)
}

// SetDowntime bounds the switchover, in milliseconds; it needs a migration that is under way in old versions.
func (c *Conn) SetDowntime(ctx context.Context, dom Domain, ms uint64) error {
	return c.do(ctx, domainMigrateMaxDowntime, func(e *xdr.Encoder) { dom.encode(e); e.Uint64(ms); e.Uint32(0) }, nil)
}

// SetSpeed bounds the transfer, or only what a post-copy sends once the source has stopped, in MiB a second.
func (c *Conn) SetSpeed(ctx context.Context, dom Domain, mib uint64, rest bool) error {
	flags := uint32(0)
	if rest {
		flags = speedOfPostCopy
	}
	return c.do(ctx, domainMigrateSetMaxSpeed, func(e *xdr.Encoder) { dom.encode(e); e.Uint64(mib); e.Uint32(flags) }, nil)
}

// AbortJob ends the job that a domain is in.
func (c *Conn) AbortJob(ctx context.Context, dom Domain) error {
	return c.do(ctx, domainAbortJob, dom.encode, nil)
}

// Types of a job, as virDomainJobType.
const (
	JobNone      = 0
	JobCompleted = 3
	JobFailed    = 4
	JobCancelled = 5
)

// OperationMigrationOut is what the parameter "operation" of a job says of one that moves the domain away.
const OperationMigrationOut = 5

// JobStats tells how far the domain's job is; completed asks for the last one that has ended, and keeps it.
func (c *Conn) JobStats(ctx context.Context, dom Domain, completed bool) (kind int32, p Params, err error) {
	flags := uint32(0)
	if completed {
		flags = 1<<0 | 1<<1
	}
	err = c.do(ctx, domainGetJobStats, func(e *xdr.Encoder) { dom.encode(e); e.Uint32(flags) }, func(d *xdr.Decoder) {
		kind, p = d.Int32(), decodeParams(d)
	})
	return kind, p, err
}

// StartDirtyRate measures for some seconds how much memory the domain writes, by sampling pages.
func (c *Conn) StartDirtyRate(ctx context.Context, dom Domain, seconds int32) error {
	return c.do(ctx, domainStartDirtyRate, func(e *xdr.Encoder) { dom.encode(e); e.Int32(seconds); e.Uint32(0) }, nil)
}

// StatsDirtyRate is the group of Stats with what StartDirtyRate has measured.
const StatsDirtyRate = 1 << 9

// Stats returns figures of one domain.
func (c *Conn) Stats(ctx context.Context, dom Domain, groups uint32) (p Params, err error) {
	err = c.do(ctx, connectGetAllDomainStats, func(e *xdr.Encoder) {
		e.Uint32(1)
		dom.encode(e)
		e.Uint32(groups)
		e.Uint32(0)
	}, func(d *xdr.Decoder) {
		for range d.Len(maxDomains, domainSize+4) {
			decodeDomain(d)
			p = decodeParams(d)
		}
	})
	return p, err
}
