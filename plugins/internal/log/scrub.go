package log

import (
	"context"
	"errors"
	"slices"
	"time"
)

// ScrubOptions of Scrub; the zero value works.
type ScrubOptions struct {
	// Rate is in bytes a second. 0 means 16 MiB, negative as fast as the disk is.
	Rate int64
	// Bad is called for everything that cannot be read back, in order of position.
	Bad func(Damage)
	// Progress is told now and then how many bytes have been read.
	Progress func(bytes int64)
}

// Damage is a part of the log that does not hold what was written, or cannot be read.
type Damage struct {
	Pos, Len int64
	// Header means that the group's header is damaged: nothing is known about the records in
	// the range, and neither a replay nor a Scan gets past it. Data that an index points at is
	// as good as its own checksum says.
	Header bool
	// Kind and Off tell what the damaged block or patch belongs to, unless Header.
	Kind Kind
	Off  int64
}

// ScrubReport sums up one pass.
type ScrubReport struct {
	Groups, Bytes int64
	Damaged       int64 // calls of Bad
}

const (
	scrubRate = 16 << 20
	scrubRest = 250 * time.Millisecond // how long a pass works before it looks at the clock
)

// Scrub reads the durable log from the tail once, past all caches, and checks every block. What cannot be read is
// damage like any other: it returns early only at the end of ctx or when the log fails. What it reports may have been freed
// meanwhile; the owner compares with its index before it repairs.
func (l *Log) Scrub(ctx context.Context, o ScrubOptions) (ScrubReport, error) {
	p := scrubPass{log: l, bad: o.Bad, scan: l.scanner(l.durablePos.Load()), next: l.Tail()}
	defer p.scan.release()
	if o.Rate == 0 {
		o.Rate = scrubRate
	}
	var timer *time.Timer
	for before := int64(0); !p.done(); {
		if err := l.Err(); err != nil {
			return p.report, err
		}
		if err := p.step(); err != nil {
			return p.report, err
		}
		if o.Progress != nil {
			o.Progress(p.report.Bytes)
		}
		ahead := p.report.Bytes - before
		if o.Rate < 0 || ahead < o.Rate*int64(scrubRest)/int64(time.Second) {
			if ctx.Err() != nil {
				return p.report, ctx.Err()
			}
			continue
		}
		wait := time.Duration(float64(ahead) / float64(o.Rate) * float64(time.Second))
		if before = p.report.Bytes; timer == nil {
			timer = time.NewTimer(wait)
			defer timer.Stop()
		} else {
			timer.Reset(wait)
		}
		select {
		case <-timer.C:
		case <-ctx.Done():
			return p.report, ctx.Err()
		}
	}
	return p.report, nil
}

// scrubPass is one pass, stepped group by group.
type scrubPass struct {
	log     *Log
	bad     func(Damage)
	scan    *scanner
	next    Cursor
	unknown bool // the chain is lost: the next group is taken as it is
	group   Group
	gaps    []int64 // pages of the group that cannot be read
	report  ScrubReport
}

func (p *scrubPass) done() bool { return p.next.Pos >= p.scan.limit }

func (p *scrubPass) step() error {
	s, g := p.scan, &p.group
	if tail := p.log.Tail(); p.next.Pos < tail.Pos { // freed while we were busy with it
		p.next, p.unknown = tail, false
	}
	s.direct = true
	page, err := s.bytes(p.next.Pos, BlockSize)
	if err != nil {
		p.skip()
		return nil
	}
	c := p.next
	if err := g.parseHeader(page, p.log.sb.tag(), p.log.sb.Segment); err == nil && p.unknown {
		c.Seq, c.Prev = g.Seq, g.Prev
	}
	switch err := s.header(g, c); {
	case errors.Is(err, errInvalid):
		p.skip()
		return nil
	case err != nil:
		return err
	}
	p.gaps = p.gaps[:0]
	whole, err := s.bytes(g.Pos, g.Len)
	if err != nil {
		whole = p.pages()
	}
	for i := range g.Records {
		p.check(&g.Records[i], whole)
	}
	p.report.Groups++
	p.report.Bytes += g.Len
	p.next, p.unknown = g.After(), false
	return nil
}

// pages reads the group page by page and notes those that cannot be.
func (p *scrubPass) pages() []byte {
	g := &p.group
	buf := AlignedBuffer(int(g.Len))
	for at := int64(0); at < g.Len; at += BlockSize {
		if err := p.log.readBlocks(buf[at:at+BlockSize], g.Pos+at, true); err != nil {
			p.gaps = append(p.gaps, g.Pos+at)
		}
	}
	return buf
}

// missing reports whether some of n bytes at pos could not be read.
func (p *scrubPass) missing(pos, n int64) bool {
	return slices.ContainsFunc(p.gaps, func(page int64) bool { return page < pos+n && pos < page+BlockSize })
}

// check reports every block of a record that is damaged.
func (p *scrubPass) check(r *Record, group []byte) {
	unit := min(r.Len, BlockSize)
	for i, sum := range r.Sums {
		at := r.Pos + int64(i)*BlockSize
		if p.missing(at, unit) || Checksum(group[at-p.group.Pos:][:unit]) != sum {
			p.damage(Damage{Pos: at, Len: unit, Kind: r.Kind, Off: r.Off + int64(i)*BlockSize})
		}
	}
}

// skip goes on at the next segment: a group always starts there.
func (p *scrubPass) skip() {
	segment := p.log.sb.Segment
	end := min(p.next.Pos-p.next.Pos%segment+segment, p.scan.limit)
	p.damage(Damage{Pos: p.next.Pos, Len: end - p.next.Pos, Header: true})
	p.report.Bytes += end - p.next.Pos
	p.next, p.unknown = Cursor{Pos: end}, true
}

// damage reports what is still part of the log.
func (p *scrubPass) damage(d Damage) {
	if d.Pos+d.Len <= p.log.Tail().Pos {
		return
	}
	p.report.Damaged++
	if p.bad != nil {
		p.bad(d)
	}
}
