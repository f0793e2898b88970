package counter

import (
	"encoding/binary"
	"fmt"

	"github.com/google/go-tpm/tpm2"
)

// Increment adds one to C and returns the new value, read back.
func (c *Chip) Increment() (uint64, error) {
	if err := c.increment(true); err != nil {
		return 0, err
	}
	b, err := c.nvRead(indexC().at(true, false))
	if err != nil {
		return 0, explain("read C back", err)
	}
	if len(b) != 8 {
		return 0, fmt.Errorf("read C back: got %d bytes", len(b))
	}
	return binary.BigEndian.Uint64(b), nil
}

func (c *Chip) increment(written bool) error {
	h, err := indexC().at(written, false).named()
	if err != nil {
		return err
	}
	s, err := c.plain()
	if err != nil {
		return err
	}
	_, err = tpm2.NVIncrement{AuthHandle: with(h, use{session: s}), NVIndex: h}.Execute(&c.t)
	return explain("increment C", err)
}

// Extend appends the digest of an intent to J.
func (c *Chip) Extend(d Digest) error { return c.extend(d, true) }

func (c *Chip) extend(d Digest, written bool) error {
	h, err := indexJ().at(written, false).named()
	if err != nil {
		return err
	}
	s, err := c.plain()
	if err != nil {
		return err
	}
	return explain("extend J", nvExtend(h, d[:]).run(&c.t, use{session: s}))
}

// WriteE writes E under a box's policy with the approval of the image that runs, and reads it back.
// It works only before Cap. first says that E was never written. Errors are Recall's.
func (c *Chip) WriteE(p Policy, a Approval, e Expected, first bool) error {
	if err := ready(p, a); err != nil {
		return fmt.Errorf("write E: %w", err)
	}
	policy, err := p.E()
	if err != nil {
		return err
	}
	h, err := indexE(policy).at(!first, false).named()
	if err != nil {
		return err
	}
	data := append(binary.BigEndian.AppendUint64(nil, e.Counter), e.Ledger[:]...)
	err = c.underPolicy(c.satisfyE(p, a), func(s *session) error {
		_, err := tpm2.NVWrite{
			AuthHandle: with(h, use{session: s}), NVIndex: h, Data: tpm2.TPM2BMaxNVBuffer{Buffer: data},
		}.Execute(&c.t)
		return err
	})
	if err != nil {
		return explain("write E", err)
	}
	got, err := c.nvRead(indexE(policy).at(true, false))
	if err != nil {
		return explain("read E back", err)
	}
	if string(got) != string(data) {
		return fmt.Errorf("read E back: got %x, wrote %x", got, data)
	}
	return nil
}
