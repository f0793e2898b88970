package nbd

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
)

var commandNames = map[string]Command{
	"read": CmdRead, "write": CmdWrite, "disc": CmdDisc, "flush": CmdFlush, "trim": CmdTrim,
	"cache": CmdCache, "zeroes": CmdWriteZeroes, "status": CmdBlockStatus, "unknown": 99,
}

var flagNames = map[string]uint16{
	"fua": cmdFUA, "no-hole": cmdNoHole, "df": cmdDF, "req-one": cmdReqOne, "fast": cmdFastZero, "bit15": 1 << 15,
}

// TestRequest runs scripts: `limits …` sets what is negotiated, the name of a command checks a
// request, `extents` answers one to BLOCK_STATUS from lines of "length flags".
func TestRequest(t *testing.T) {
	datadriven.Walk(t, "testdata/request", func(t *testing.T, path string) {
		var l limits
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			switch d.Cmd {
			case "limits":
				l = limits{minimum: 1, maximum: MaxRequest}
				maybe(t, d, "size", &l.size)
				maybe(t, d, "minimum", &l.minimum)
				maybe(t, d, "maximum", &l.maximum)
				l.readOnly, l.structured = d.HasArg("ro"), d.HasArg("structured")
				l.cache = d.HasArg("cache")
				if d.HasArg("allocation") {
					l.selected = ctxAllocation
				}
				return ""
			case "extents":
				return renderExtents(t, d)
			}
			r := request{cmd: commandNames[d.Cmd], cookie: 7}
			maybe(t, d, "off", &r.off)
			maybe(t, d, "n", &r.n)
			for _, a := range d.CmdArgs {
				r.flags |= flagNames[a.Key]
			}
			data, err := l.payload(r)
			if err != nil {
				return err.Error() + "\n"
			}
			if code := l.check(r); code != 0 {
				return fmt.Sprintf("errno %d, data %d\n", code, data)
			}
			return "ok\n"
		})
	})
}

func renderExtents(t *testing.T, d *datadriven.TestData) string {
	r := request{cmd: CmdBlockStatus}
	maybe(t, d, "n", &r.n)
	if d.HasArg("req-one") {
		r.flags = cmdReqOne
	}
	var list []Extent
	for line := range strings.Lines(d.Input) {
		var e Extent
		var state string
		fmt.Sscan(line, &e.Len, &state)
		e.Hole, e.Zero = strings.Contains(state, "hole"), strings.Contains(state, "zero")
		list = append(list, e)
	}
	b := appendStatus(nil, r, 1, true, list)
	var out strings.Builder
	if int(be.Uint32(b[16:])) != len(b)-structuredLen {
		out.WriteString("wrong length\n")
	}
	for b = b[structuredLen+4:]; len(b) > 0; b = b[8:] {
		fmt.Fprintln(&out, be.Uint32(b), be.Uint32(b[4:]))
	}
	return out.String()
}

func TestParseRequest(t *testing.T) {
	b := []byte("\x25\x60\x95\x13\x00\x11\x00\x06\x01\x02\x03\x04\x05\x06\x07\x08\x00\x00\x00\x00\x00\x00\x10\x00\x00\x00\x02\x00")
	r, err := parseRequest(b)
	want := request{flags: cmdFUA | cmdFastZero, cmd: CmdWriteZeroes, cookie: 0x0102030405060708, off: 4096, n: 512}
	if err != nil || r != want {
		t.Fatalf("%+v, %v; want %+v", r, err, want)
	}
	b[0]++
	if _, err := parseRequest(b); err == nil {
		t.Fatal("wrong magic accepted")
	}
}

// TestSparse checks that the chunks of a reply cover the data exactly once and save bytes.
func TestSparse(t *testing.T) {
	const u = sparseUnit
	for _, layout := range []string{"z", "d", "zd", "dz", "dzd", "zzdzz", "dddzzzd", "s", "zs", "ds", "Z", "dZ"} {
		var data []byte
		for i, c := range layout {
			switch c { // s and Z are tails shorter than a unit
			case 'z':
				data = append(data, make([]byte, u)...)
			case 'd':
				data = append(data, bytes.Repeat([]byte{byte(i + 1)}, u)...)
			case 's':
				data = append(data, 9, 9, 9)
			case 'Z':
				data = append(data, 0, 0, 0)
			}
		}
		r := request{cookie: 1, off: 5000, n: uint32(len(data))}
		out := appendSparse(nil, r, data)
		got := bytes.Repeat([]byte{0xee}, len(data))
		done := false
		for b := out; len(b) > 0; {
			if done {
				t.Fatalf("%s: chunk after the last", layout)
			}
			n := int(be.Uint32(b[16:]))
			body := b[structuredLen : structuredLen+n]
			at := int(be.Uint64(body) - r.off)
			done = be.Uint16(b[4:])&replyDone != 0
			switch be.Uint16(b[6:]) {
			case chunkOffsetData:
				copy(got[at:], body[8:])
			case chunkOffsetHole:
				clear(got[at : at+int(be.Uint32(body[8:]))])
			}
			b = b[structuredLen+n:]
		}
		if !done || !bytes.Equal(got, data) {
			t.Errorf("%s: reply does not give the data back (done %v)", layout, done)
		}
		if hasHole(data, false) && len(out) > len(data) {
			t.Errorf("%s: %d bytes to send %d", layout, len(out), len(data))
		}
	}
}

// maybe scans an optional number; datadriven knows 64-bit ones only.
func maybe[T uint32 | uint64](t *testing.T, d *datadriven.TestData, key string, dst *T) {
	if d.HasArg(key) {
		var v uint64
		d.ScanArgs(t, key, &v)
		*dst = T(v)
	}
}
