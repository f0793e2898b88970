package luks

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// Geometry of the volumes that are made here.
const (
	copySize = 16 << 10
	// areaSize is keySize × stripes, rounded up to 4 KiB.
	areaSize = (keySize*stripes + 4095) / 4096 * 4096
	// HeaderSize is that of both copies together.
	HeaderSize = 2 * copySize
	// DataOffset leaves room for eight keyslots and is aligned to any flash erase block.
	DataOffset = 2 << 20
)

// Token is a note in the header, here about where the passphrase of a keyslot comes from.
type Token struct {
	Type string
	Data any // a JSON object, without the members type and keyslots
}

// Options of Format. UUID and both passphrases are needed.
type Options struct {
	UUID, Label, Subsystem string
	// Passphrase opens the first keyslot, which Token goes with; Recovery the second.
	Passphrase, Recovery []byte
	Token                Token
	Rand                 io.Reader // nil for crypto/rand
}

// Format makes an empty volume and returns its key. What the device held before is lost with the first
// write; a power cut leaves no header.
func Format(d Device, o Options) (h *Header, key []byte, err error) {
	if o.Rand == nil {
		o.Rand = rand.Reader
	}
	if o.UUID == "" || len(o.Passphrase) == 0 || len(o.Recovery) == 0 {
		return nil, nil, errors.New("format volume: UUID and passphrases must be given")
	}
	h = &Header{UUID: o.UUID, Label: o.Label, Subsystem: o.Subsystem, size: copySize, rand: o.Rand}
	h.segment = segment{Type: "crypt", Offset: DataOffset, Size: "dynamic", IVTweak: "0", Encryption: Cipher, SectorSize: sectorSize}
	m := metadata{Keyslots: map[string]json.RawMessage{}, Tokens: map[string]json.RawMessage{}, Config: config{JSONSize: copySize - binarySize, KeyslotsSize: DataOffset - HeaderSize}}
	key = make([]byte, keySize)
	sum := digest{Type: "pbkdf2", Segments: []string{"0"}, Hash: "sha256", Iterations: minIterations, Salt: make([]byte, 32)}
	for _, b := range [][]byte{key, sum.Salt} {
		if _, err := io.ReadFull(o.Rand, b); err != nil {
			return nil, nil, fmt.Errorf("make volume key: %w", err)
		}
	}
	if sum.Digest, err = stretch(key, sum.Salt, sum.Iterations, 32); err != nil {
		return nil, nil, err
	}
	if err := errors.Join(put(&m.Segments, "0", h.segment), put(&m.Digests, "0", sum)); err != nil {
		return nil, nil, err
	}
	// Old headers go first: one of them could have the higher sequence number.
	if err := write(d, make([]byte, HeaderSize), 0); err != nil {
		return nil, nil, fmt.Errorf("format volume: %w", err)
	}
	for i, passphrase := range [][]byte{o.Passphrase, o.Recovery} {
		id, err := m.addSlot(d, h, key, passphrase)
		if err == nil && i == 0 {
			err = m.setToken("0", o.Token, []string{id})
		}
		if err != nil {
			return nil, nil, fmt.Errorf("format volume: %w", err)
		}
	}
	if err := h.commit(d, m); err != nil {
		return nil, nil, err
	}
	return h, key, nil
}

// SetToken replaces the token of its type, whose keyslots it keeps.
func (h *Header) SetToken(d Device, t Token) error {
	m := h.meta.clone()
	id, slots, raw := m.token(t.Type)
	if raw == nil {
		return fmt.Errorf("replace token %s of volume %s: there is none", t.Type, h.UUID)
	}
	if err := m.setToken(id, t, slots); err != nil {
		return err
	}
	return h.commit(d, m)
}

// Replace puts a keyslot and a token in the place of the token of the same type and of the keyslots that
// went with it, in one step. A volume without such a token gets both. key is the volume's, from Unlock.
func (h *Header) Replace(d Device, key, passphrase []byte, t Token) error {
	m := h.meta.clone()
	id, old, raw := m.token(t.Type)
	if raw == nil {
		var err error
		if id, err = free(m.Tokens); err != nil {
			return err
		}
	}
	slot, err := m.addSlot(d, h, key, passphrase)
	if err != nil {
		return fmt.Errorf("replace keyslot of volume %s: %w", h.UUID, err)
	}
	var gone []area
	for _, id := range old {
		if k, err := m.slot(id, h.size); err == nil {
			gone = append(gone, k.Area)
		}
		if err := m.dropSlot(id); err != nil {
			return err
		}
	}
	if err := m.setToken(id, t, []string{slot}); err != nil {
		return err
	}
	if err := h.commit(d, m); err != nil {
		return err
	}
	// No header names these any more; until they are gone they would open with the old passphrase.
	for _, a := range gone {
		if err := write(d, make([]byte, a.Size), a.Offset); err != nil {
			return fmt.Errorf("wipe keyslot of volume %s: %w", h.UUID, err)
		}
	}
	return nil
}

// addSlot writes a keyslot into a free area and enters it. It is not valid before the header is.
func (m *metadata) addSlot(d Device, h *Header, key, passphrase []byte) (id string, err error) {
	if id, err = free(m.Keyslots); err != nil {
		return "", err
	}
	at, err := m.freeArea(h.size)
	if err != nil {
		return "", err
	}
	k, content, err := newSlot(key, passphrase, at, h.rand)
	if err != nil {
		return "", err
	}
	if err := write(d, content, at); err != nil {
		return "", err
	}
	if err := put(&m.Keyslots, id, k); err != nil {
		return "", err
	}
	// All keyslots hold the one volume key, so they go with one digest.
	for _, n := range sorted(m.Digests) {
		var sum digest
		if err := json.Unmarshal(m.Digests[n], &sum); err != nil {
			return "", fmt.Errorf("read LUKS2 digest %s: %w", n, err)
		}
		if len(sum.Segments) > 0 {
			sum.Keyslots = append(sum.Keyslots, id)
			return id, put(&m.Digests, n, sum)
		}
	}
	return "", errors.New("no digest goes with the data segment")
}

// freeArea finds room that no keyslot uses, of whatever kind it is.
func (m *metadata) freeArea(size uint64) (uint64, error) {
	end := 2*size + m.Config.KeyslotsSize
search:
	for at := 2 * size; at+areaSize <= end; at += areaSize {
		for id, raw := range m.Keyslots {
			var k struct {
				Area area `json:"area"`
			}
			if err := json.Unmarshal(raw, &k); err != nil {
				return 0, fmt.Errorf("read LUKS2 keyslot %s: %w", id, err)
			}
			if k.Area.Offset < at+areaSize && at < k.Area.Offset+k.Area.Size {
				continue search
			}
		}
		return at, nil
	}
	return 0, errors.New("no room for another keyslot: remove one with cryptsetup luksKillSlot")
}

// dropSlot takes a keyslot out of everything that names it.
func (m *metadata) dropSlot(id string) error {
	delete(m.Keyslots, id)
	for _, n := range sorted(m.Digests) {
		var sum digest
		if err := json.Unmarshal(m.Digests[n], &sum); err != nil {
			return fmt.Errorf("read LUKS2 digest %s: %w", n, err)
		}
		kept := sum.Keyslots[:0]
		for _, s := range sum.Keyslots {
			if s != id {
				kept = append(kept, s)
			}
		}
		sum.Keyslots = kept
		if err := put(&m.Digests, n, sum); err != nil {
			return err
		}
	}
	return nil
}

// setToken writes a token: its data with type and keyslots beside it.
func (m *metadata) setToken(id string, t Token, slots []string) error {
	raw, err := json.Marshal(t.Data)
	var members map[string]json.RawMessage
	if err == nil {
		err = json.Unmarshal(raw, &members)
	}
	if err == nil {
		err = errors.Join(put(&members, "type", t.Type), put(&members, "keyslots", slots))
	}
	if err != nil {
		return fmt.Errorf("write token %s: %w", t.Type, err)
	}
	return put(&m.Tokens, id, members)
}

// write makes b durable at an offset.
func write(d Device, b []byte, at uint64) error {
	if _, err := d.WriteAt(b, int64(at)); err != nil {
		return err
	}
	return d.Sync()
}
