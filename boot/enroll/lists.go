package enroll

import (
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
)

var le = binary.LittleEndian

// ErrFormat is wrapped by every error about bytes that are not what UEFI defines.
var ErrFormat = errors.New("not in the format of UEFI")

var (
	// certX509 is EFI_CERT_X509_GUID as it lies in memory.
	certX509 = [16]byte{0xa1, 0x59, 0xc0, 0xa5, 0xe4, 0x94, 0xa7, 0x4a, 0x87, 0xb5, 0xab, 0x15, 0x5c, 0x2b, 0xf0, 0x72}
	// owner marks our entries, 6d2c7b1e-5f0a-4c39-9b57-0a6f5f2e8c41; firmware only shows it.
	owner = [16]byte{0x1e, 0x7b, 0x2c, 0x6d, 0x0a, 0x5f, 0x39, 0x4c, 0x9b, 0x57, 0x0a, 0x6f, 0x5f, 0x2e, 0x8c, 0x41}
)

const (
	listHeader = 28 // type and three lengths
	ownerLen   = 16
	// maxVariable bounds what is read as a variable; Microsoft's dbx has some 20 KiB.
	maxVariable = 256 << 10
)

// Lists is the value of db, KEK or PK that holds these certificates, one EFI_SIGNATURE_LIST each,
// since all entries of a list have one length.
func Lists(certs ...*x509.Certificate) []byte {
	var b []byte
	for _, c := range certs {
		b = append(b, certX509[:]...)
		b = le.AppendUint32(b, uint32(listHeader+ownerLen+len(c.Raw)))
		b = le.AppendUint32(b, 0)
		b = le.AppendUint32(b, uint32(ownerLen+len(c.Raw)))
		b = append(append(b, owner[:]...), c.Raw...)
	}
	return b
}

// Certificates reads the X.509 certificates out of such a value. Lists of other types, which are
// digests mostly, are passed over.
func Certificates(data []byte) ([]*x509.Certificate, error) {
	if len(data) > maxVariable {
		return nil, fmt.Errorf("read signature lists: %w: %d bytes are too many", ErrFormat, len(data))
	}
	var certs []*x509.Certificate
	for len(data) > 0 {
		if len(data) < listHeader {
			return nil, fmt.Errorf("read signature lists: %w: %d bytes left over", ErrFormat, len(data))
		}
		total, header, each := le.Uint32(data[16:]), le.Uint32(data[20:]), le.Uint32(data[24:])
		if total < listHeader || uint64(total) > uint64(len(data)) || header > total-listHeader {
			return nil, fmt.Errorf("read signature lists: %w: length %d of %d, header %d", ErrFormat, total, len(data), header)
		}
		entries := data[listHeader+header : total]
		if [16]byte(data[:16]) == certX509 {
			if each <= ownerLen || len(entries)%int(each) != 0 {
				return nil, fmt.Errorf("read signature lists: %w: entries of %d bytes in %d", ErrFormat, each, len(entries))
			}
			for ; len(entries) > 0; entries = entries[each:] {
				c, err := x509.ParseCertificate(entries[ownerLen:each])
				if err != nil {
					return nil, fmt.Errorf("read signature lists: %w: %w", ErrFormat, err)
				}
				certs = append(certs, c)
			}
		}
		data = data[total:]
	}
	return certs, nil
}
