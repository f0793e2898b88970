package nbdtest

import (
	"crypto/tls"
	"fmt"
)

// haggle is the handshake with its options, up to the transmission phase (doc/proto.md of NetworkBlockDevice/nbd, "Newstyle negotiation").
func (c *Client) haggle(export string) error {
	if c.opts.TLS != nil {
		if _, err := c.Option(5, nil); err != nil {
			return err
		}
		secure := tls.Client(c.conn, c.opts.TLS)
		if err := secure.Handshake(); err != nil {
			return err
		}
		c.conn = secure
		c.rd.Reset(secure)
	}
	if c.opts.Structured {
		if _, err := c.Option(8, nil); err != nil {
			return err
		}
	}
	name := append(be.AppendUint32(nil, uint32(len(export))), export...)
	if c.opts.Meta {
		if err := c.selectContexts(name); err != nil {
			return err
		}
	}
	if c.opts.OldName {
		if err := c.sendOption(1, []byte(export)); err != nil {
			return err
		}
		b, err := c.read(10)
		if err != nil {
			return err
		}
		c.Size, c.Flags = be.Uint64(b), be.Uint16(b[8:])
		return nil
	}
	replies, err := c.Option(7, append(be.AppendUint16(name, 1), 0, 3))
	if err != nil {
		return err
	}
	for _, r := range replies {
		switch {
		case len(r) == 12 && be.Uint16(r) == 0:
			c.Size, c.Flags = be.Uint64(r[2:]), be.Uint16(r[10:])
		case len(r) == 14 && be.Uint16(r) == 3:
			c.Min, c.Pref, c.Max = be.Uint32(r[2:]), be.Uint32(r[6:]), be.Uint32(r[10:])
		}
	}
	return nil
}

// selectContexts asks for all contexts and then for each that was named. name is the export's with its length.
func (c *Client) selectContexts(name []byte) error {
	offered, err := c.Option(9, be.AppendUint32(append([]byte(nil), name...), 0))
	if err != nil {
		return err
	}
	q := be.AppendUint32(append([]byte(nil), name...), uint32(len(offered)))
	for _, o := range offered {
		if len(o) < 4 {
			return fmt.Errorf("context %x has no name", o)
		}
		q = append(be.AppendUint32(q, uint32(len(o)-4)), o[4:]...)
	}
	chosen, err := c.Option(10, q)
	if err != nil {
		return err
	}
	if len(chosen) != len(offered) || len(chosen) == 0 {
		return fmt.Errorf("%d contexts offered, %d selected", len(offered), len(chosen))
	}
	c.contexts = make(map[uint32]string)
	for _, o := range chosen {
		c.contexts[be.Uint32(o)] = string(o[4:])
	}
	return nil
}

func (c *Client) sendOption(opt uint32, data []byte) error {
	b := append([]byte("IHAVEOPT"), be.AppendUint32(be.AppendUint32(nil, opt), uint32(len(data)))...)
	return c.write(append(b, data...))
}

// Option sends one option and returns the bodies of its replies up to the acknowledgement. An
// error reply is returned as an error with its text.
func (c *Client) Option(opt uint32, data []byte) ([][]byte, error) {
	if err := c.sendOption(opt, data); err != nil {
		return nil, err
	}
	var bodies [][]byte
	for {
		h, err := c.read(20)
		if err != nil {
			return nil, err
		}
		if be.Uint64(h) != 0x3e889045565a9 || be.Uint32(h[8:]) != opt {
			return nil, fmt.Errorf("option %d: reply header %x", opt, h)
		}
		kind := be.Uint32(h[12:])
		body, err := c.read(int(be.Uint32(h[16:])))
		if err != nil {
			return nil, err
		}
		switch {
		case kind == 1:
			return bodies, nil
		case kind&(1<<31) != 0:
			return nil, fmt.Errorf("option %d: error %d: %s", opt, kind&0xffff, body)
		}
		bodies = append(bodies, body)
	}
}
