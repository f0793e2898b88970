package remote

import (
	"errors"

	"github.com/ratchetos/ratchet/plugins/migration/hypervisor/libvirt/xdr"
)

// Types of a value in Params, as virTypedParameterType.
const (
	paramInt    = 1
	paramUint   = 2
	paramLong   = 3
	paramUlong  = 4
	paramDouble = 5
	paramBool   = 6
	paramString = 7
)

var errParam = errors.New("parameter of unknown type")

// Params are named values: of type int32, uint32, int64, uint64, float64, bool or string. A name may come more than once.
type Params []Param

// Param is one of them.
type Param struct {
	Name  string
	Value any
}

// Uint is a value that is a whole number not below 0; 0 otherwise.
func (p Params) Uint(name string) uint64 {
	for _, q := range p {
		if q.Name != name {
			continue
		}
		switch v := q.Value.(type) {
		case uint64:
			return v
		case uint32:
			return uint64(v)
		case int64:
			return uint64(max(v, 0))
		case int32:
			return uint64(max(v, 0))
		}
	}
	return 0
}

func (p Params) encode(e *xdr.Encoder) {
	e.Uint32(uint32(len(p)))
	for _, q := range p {
		e.String(q.Name)
		switch v := q.Value.(type) {
		case int32:
			e.Int32(paramInt)
			e.Int32(v)
		case uint32:
			e.Int32(paramUint)
			e.Uint32(v)
		case int64:
			e.Int32(paramLong)
			e.Uint64(uint64(v))
		case uint64:
			e.Int32(paramUlong)
			e.Uint64(v)
		case float64:
			e.Int32(paramDouble)
			e.Double(v)
		case bool:
			e.Int32(paramBool)
			e.Bool(v)
		case string:
			e.Int32(paramString)
			e.String(v)
		}
	}
}

// paramSize is the least a parameter takes: an empty name, a type and a value of four bytes.
const paramSize = 12

func decodeParams(d *xdr.Decoder) Params {
	var list Params
	for range d.Len(maxParams, paramSize) {
		p := Param{Name: d.String(maxName)}
		switch d.Int32() {
		case paramInt:
			p.Value = d.Int32()
		case paramUint:
			p.Value = d.Uint32()
		case paramLong:
			p.Value = int64(d.Uint64())
		case paramUlong:
			p.Value = d.Uint64()
		case paramDouble:
			p.Value = d.Double()
		case paramBool:
			p.Value = d.Int32() != 0
		case paramString:
			p.Value = d.String(maxText)
		default:
			d.Fail(errParam)
			return nil
		}
		list = append(list, p)
	}
	return list
}
