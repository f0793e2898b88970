package ovmf

import (
	"encoding/hex"
	"fmt"
	"strings"
)

// GUID is an EFI_GUID as it lies in memory: the first three fields little-endian.
type GUID [16]byte

// memoryOrder maps the bytes of the written form to the bytes in memory.
var memoryOrder = [16]int{3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15}

// ParseGUID reads the form 8be4df61-93ca-11d2-aa0d-00e098032b8c.
func ParseGUID(s string) (GUID, error) {
	b, err := hex.DecodeString(strings.ReplaceAll(s, "-", ""))
	if err != nil || len(b) != 16 || len(s) != 36 {
		return GUID{}, fmt.Errorf("parse GUID %q: want 8-4-4-4-12 hexadecimal digits", s)
	}
	var g GUID
	for i, from := range memoryOrder {
		g[i] = b[from]
	}
	return g, nil
}

// MustGUID is ParseGUID for constants in source code.
func MustGUID(s string) GUID {
	g, err := ParseGUID(s)
	if err != nil {
		panic(err)
	}
	return g
}

func (g GUID) String() string {
	var b [16]byte
	for i, to := range memoryOrder {
		b[to] = g[i]
	}
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[0:4], b[4:6], b[6:8], b[8:10], b[10:])
}
