package enroll

import (
	"fmt"
	"time"
	"unicode/utf16"
)

// Vendor GUIDs of Secure Boot's variables, as efivarfs and people write them.
const (
	Global   = "8be4df61-93ca-11d2-aa0d-00e098032b8c" // EFI_GLOBAL_VARIABLE
	Security = "d719b2cb-3d3a-4596-a3bc-dad00e67656f" // EFI_IMAGE_SECURITY_DATABASE_GUID
)

// vendors are the same in memory, which is what is signed.
var vendors = map[string][16]byte{
	Global:   {0x61, 0xdf, 0xe4, 0x8b, 0xca, 0x93, 0xd2, 0x11, 0xaa, 0x0d, 0x00, 0xe0, 0x98, 0x03, 0x2b, 0x8c},
	Security: {0xcb, 0xb2, 0x19, 0xd7, 0x3a, 0x3d, 0x96, 0x45, 0xa3, 0xbc, 0xda, 0xd0, 0x0e, 0x67, 0x65, 0x6f},
}

// Attributes of the variables: non-volatile, for boot services and the running system, and changed
// only by time-based authenticated writes.
const Attributes uint32 = 0x27

// Variable is one of Secure Boot's.
type Variable struct{ Name, Vendor string }

// The variables an enrolment writes.
var (
	PK  = Variable{"PK", Global}
	KEK = Variable{"KEK", Global}
	DB  = Variable{"db", Security}
	DBX = Variable{"dbx", Security}
)

// Update is an EFI_VARIABLE_AUTHENTICATION_2 with the new value behind it: a file such as db.auth.
type Update struct {
	Time time.Time // whole seconds; firmware refuses one that is not later than the one before
	// Signature is a PKCS #7 SignedData over ToBeSigned; empty where none is asked for.
	Signature []byte
	Value     []byte
}

const (
	timeLen   = 16
	certLen   = 24 // WIN_CERTIFICATE and the type of what follows
	revision  = 0x0200
	typeGUID  = 0x0ef1 // WIN_CERT_TYPE_EFI_GUID
	headerLen = timeLen + certLen
)

// certPKCS7 is EFI_CERT_TYPE_PKCS7_GUID as it lies in memory.
var certPKCS7 = [16]byte{0x9d, 0xd2, 0xaf, 0x4a, 0xdf, 0x68, 0xee, 0x49, 0x8a, 0xa9, 0x34, 0x7d, 0x37, 0x56, 0x65, 0xa7}

// Bytes is what is written to the variable.
func (u Update) Bytes() []byte {
	b := efiTime(u.Time)
	b = le.AppendUint32(b, uint32(certLen+len(u.Signature)))
	b = le.AppendUint16(b, revision)
	b = le.AppendUint16(b, typeGUID)
	b = append(b, certPKCS7[:]...)
	return append(append(b, u.Signature...), u.Value...)
}

// ParseUpdate reads what Bytes writes.
func ParseUpdate(b []byte) (Update, error) {
	if len(b) < headerLen || len(b) > maxVariable {
		return Update{}, fmt.Errorf("read key update: %w: %d bytes", ErrFormat, len(b))
	}
	t := time.Date(int(le.Uint16(b)), time.Month(b[2]), int(b[3]), int(b[4]), int(b[5]), int(b[6]), 0, time.UTC)
	// Date makes 1 February of a 32 January: what was written must come out again.
	if string(efiTime(t)) != string(b[:timeLen]) {
		return Update{}, fmt.Errorf("read key update: %w: time %x", ErrFormat, b[:timeLen])
	}
	n := le.Uint32(b[timeLen:])
	if n < certLen || uint64(n) > uint64(len(b)-timeLen) || le.Uint16(b[timeLen+4:]) != revision ||
		le.Uint16(b[timeLen+6:]) != typeGUID || [16]byte(b[timeLen+8:]) != certPKCS7 {
		return Update{}, fmt.Errorf("read key update: %w: no PKCS #7 certificate of %d bytes", ErrFormat, n)
	}
	end := timeLen + int(n)
	return Update{Time: t, Signature: b[headerLen:end], Value: b[end:]}, nil
}

// ToBeSigned is what the signature of an update covers.
func (u Update) ToBeSigned(v Variable, attributes uint32) []byte {
	var b []byte
	for _, c := range utf16.Encode([]rune(v.Name)) {
		b = le.AppendUint16(b, c)
	}
	vendor := vendors[v.Vendor]
	b = append(b, vendor[:]...)
	b = le.AppendUint32(b, attributes)
	b = append(b, efiTime(u.Time)...)
	return append(b, u.Value...)
}

// efiTime is an EFI_TIME, with the fields zero that an authenticated write wants so.
func efiTime(t time.Time) []byte {
	t = t.UTC()
	b := make([]byte, timeLen)
	le.PutUint16(b, uint16(t.Year()))
	b[2], b[3], b[4], b[5], b[6] = byte(t.Month()), byte(t.Day()), byte(t.Hour()), byte(t.Minute()), byte(t.Second())
	return b
}
