package vault

import (
	"errors"
	"fmt"

	"github.com/ratchetos/ratchet/boot/luks"
)

// Volume is a partition that holds, or will hold, an encrypted volume.
type Volume struct {
	Name string // GPT name of the partition
	luks.Device
	Size int64 // of the partition, in bytes
}

// Mapping is what is needed to use an open volume: the data lie Size bytes from Offset.
type Mapping struct {
	UUID         string
	Cipher       string
	Key          []byte
	Offset, Size int64
	SectorSize   int
	// Ready says that Finish was called on the volume: what its first user writes is there.
	Ready bool
}

// token is the data of the note in a header.
type token struct {
	// Recovery is S, encrypted under the recovery key.
	Recovery []byte `json:"recovery"`
	// Ready is set by Finish.
	Ready bool `json:"ready"`
}

const tokenType = "ratchet-tpm2"

func (t token) luks() luks.Token { return luks.Token{Type: tokenType, Data: t} }

// header reads a volume's header with its token.
func (v Volume) header() (*luks.Header, token, error) {
	var t token
	h, err := luks.Read(v)
	if err == nil {
		_, err = h.Token(tokenType, &t)
	}
	if err != nil {
		return nil, t, fmt.Errorf("%s: %w", v.Name, err)
	}
	return h, t, nil
}

// mapping of an unlocked volume.
func (v Volume) mapping(h *luks.Header, key []byte, t token) (Mapping, error) {
	m := Mapping{UUID: h.UUID, Cipher: luks.Cipher, Key: key, Offset: h.Offset(), SectorSize: h.SectorSize(), Ready: t.Ready}
	m.Size = (v.Size - m.Offset) / int64(m.SectorSize) * int64(m.SectorSize)
	if m.Size <= 0 {
		return m, fmt.Errorf("%s: a partition of %d bytes has no room behind the header", v.Name, v.Size)
	}
	return m, nil
}

// open unlocks with S, and mends a header of which one copy is damaged or old.
func (v Volume) open(s Secret) (Mapping, error) {
	h, t, err := v.header()
	if err != nil {
		return Mapping{}, err
	}
	p, err := s.passphrase(h.UUID)
	if err != nil {
		return Mapping{}, err
	}
	key, err := h.Unlock(v, p)
	if err != nil {
		return Mapping{}, fmt.Errorf("%s: %w", v.Name, err)
	}
	if h.Stale {
		if err := h.Repair(v); err != nil {
			return Mapping{}, fmt.Errorf("%s: %w", v.Name, err)
		}
	}
	return v.mapping(h, key, t)
}

// Finish notes that the volume holds what its first user needs of it, a file system on STATE.
func (v Volume) Finish() error {
	h, t, err := v.header()
	if err != nil {
		return err
	}
	t.Ready = true
	if err := h.SetToken(v, t.luks()); err != nil {
		return fmt.Errorf("%s: %w", v.Name, err)
	}
	return nil
}

// Destroy makes the volume unreadable for ever: without header and keyslots the data are noise.
func (v Volume) Destroy() error {
	_, err := v.WriteAt(make([]byte, min(luks.DataOffset, v.Size)), 0)
	if err := errors.Join(err, v.Sync()); err != nil {
		return fmt.Errorf("destroy %s: %w", v.Name, err)
	}
	return nil
}
