package ledger

import (
	"crypto/sha256"
	"fmt"
)

// TargetConfig is the target of a configuration attempt; devices are "device:<id>".
const TargetConfig = "config"

// DeviceTarget is the target of an attempt on a device.
func DeviceTarget(id string) string { return "device:" + id }

// Intent says what an attempt is about to do. It is in the ring before anything is done.
type Intent struct {
	Number   uint64 // the value that C has once the attempt counts
	Target   string
	From, To Content
	Signer   string // who asked for it: a key's name or an authenticated user
}

// Encode gives the intent's record and its digest, which extends J.
func (i Intent) Encode() ([]byte, Digest, error) {
	var w writer
	w.text(i.Target)
	w.content(i.From)
	w.content(i.To)
	w.text(i.Signer)
	if w.err == nil && len(w.b) > entrySize-headerSize {
		w.fail("%d bytes, at most %d", len(w.b), entrySize-headerSize)
	}
	if w.err != nil {
		return nil, Digest{}, fmt.Errorf("intent %d: %w", i.Number, w.err)
	}
	b := record{kind: kindIntent, number: i.Number, payload: w.b}.encode()
	return b, Sum(b), nil
}

// DecodeIntent reads the intent at the start of b. Errors: ErrEmpty, ErrCorrupt, ErrNewer.
func DecodeIntent(b []byte) (Intent, Digest, error) {
	rec, err := decodeRecord(b, kindIntent, entrySize-headerSize)
	if err != nil {
		return Intent{}, Digest{}, err
	}
	r := reader{b: rec.payload}
	i := Intent{Number: rec.number, Target: r.text(), From: r.content(), To: r.content(), Signer: r.text()}
	if err := r.end(); err != nil {
		return Intent{}, Digest{}, err
	}
	return i, Sum(b[:headerSize+len(rec.payload)]), nil
}

// Chain is what the TPM makes of J when it is extended with d.
func Chain(journal, d Digest) Digest {
	return sha256.Sum256(append(journal[:], d[:]...))
}
