package control

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
)

// Kinds of datagrams, one for each part that uses them. A kind is between 1 and 127.
const (
	KindCapacity uint8 = 1 + iota
	KindBeat
	KindLease
	KindGroupAck
)

// MaxPayload bounds a datagram's payload in bytes, so that it fits the smallest MTU of IPv6.
const MaxPayload = 1200

const (
	version    = 1
	sealHeader = 1 + 1 + 2 + 8 + 8
	sealTag    = 16
	replyMark  = 8 // a reply begins with the sequence number that it answers
	// maxDatagram is the largest that is ever sent; a larger one is not ours.
	maxDatagram = sealHeader + replyMark + MaxPayload + sealTag

	replyBit    = 0x80
	kindUnknown = 0xff // box → host: this key is not known here; unsealed
	maxKind     = 0x7f
)

// exporterLabel names our use of the TLS exporter.
const exporterLabel = "EXPORTER-ratchet-dataplane-control"

var errDatagram = errors.New("malformed datagram")

// header is the authenticated, readable beginning of a datagram.
type header struct {
	kind byte
	key  uint64
	seq  uint64
}

func (h header) append(b []byte) []byte {
	b = append(b, version, h.kind, 0, 0)
	b = binary.BigEndian.AppendUint64(b, h.key)
	return binary.BigEndian.AppendUint64(b, h.seq)
}

// parseHeader takes a datagram apart; sealed is what follows the header.
func parseHeader(b []byte) (h header, sealed []byte, err error) {
	if len(b) < sealHeader || len(b) > maxDatagram || b[0] != version || b[2] != 0 || b[3] != 0 {
		return header{}, nil, errDatagram
	}
	h = header{kind: b[1], key: binary.BigEndian.Uint64(b[4:]), seq: binary.BigEndian.Uint64(b[12:])}
	return h, b[sealHeader:], nil
}

// sealer holds the keys of one session as one end uses them.
type sealer struct {
	id   uint64
	send cipher.AEAD
	recv cipher.AEAD
}

// newSealer derives the keys from an established session. The first key is for datagrams from the host.
func newSealer(state tls.ConnectionState, box bool) (*sealer, error) {
	const keySize = 32
	material, err := state.ExportKeyingMaterial(exporterLabel, nil, 8+2*keySize)
	if err != nil {
		return nil, fmt.Errorf("derive datagram keys: %w", err)
	}
	s := &sealer{id: binary.BigEndian.Uint64(material)}
	var aeads [2]cipher.AEAD
	for i := range aeads {
		block, err := aes.NewCipher(material[8+i*keySize:][:keySize])
		if err != nil {
			return nil, fmt.Errorf("derive datagram keys: %w", err)
		}
		if aeads[i], err = cipher.NewGCM(block); err != nil {
			return nil, fmt.Errorf("derive datagram keys: %w", err)
		}
	}
	s.send, s.recv = aeads[0], aeads[1]
	if box {
		s.send, s.recv = s.recv, s.send
	}
	return s, nil
}

// seal writes a datagram behind b. seq must never be used twice.
func (s *sealer) seal(b []byte, kind byte, seq uint64, payload ...[]byte) []byte {
	at := len(b)
	b = header{kind: kind, key: s.id, seq: seq}.append(b)
	for _, p := range payload {
		b = append(b, p...)
	}
	var nonce [12]byte
	binary.BigEndian.PutUint64(nonce[4:], seq)
	plain := b[at+sealHeader:]
	return s.send.Seal(b[:at+sealHeader], nonce[:], plain, b[at:at+sealHeader])
}

// open decrypts what follows the header of datagram, in place.
func (s *sealer) open(datagram []byte, seq uint64) ([]byte, error) {
	var nonce [12]byte
	binary.BigEndian.PutUint64(nonce[4:], seq)
	sealed := datagram[sealHeader:]
	return s.recv.Open(sealed[:0], nonce[:], sealed, datagram[:sealHeader])
}
