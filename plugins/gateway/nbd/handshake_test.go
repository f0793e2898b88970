package nbd

import (
	"context"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
)

// fixed is a backend of which only the shape matters.
type fixed struct {
	Backend
	size uint64
	min  uint32
}

func (f fixed) Size() uint64                        { return f.size }
func (f fixed) BlockSize() (uint32, uint32, uint32) { return f.min, 4096, 0 }

type fixedCache struct{ fixed }

func (fixedCache) Cache(context.Context, uint64, uint64) error { return nil }

// fixedState can tell where its data is.
type fixedState struct{ fixed }

func (fixedState) StateOf(context.Context, uint64, uint64, bool) ([]StateExtent, error) {
	return nil, nil
}

// testExports are one plain volume, one that is read-only and can prefetch, and one for
// clients that obey block sizes, which knows where its data is.
func testExports() *Set {
	set := new(Set)
	for _, e := range []*Export{
		{Name: "plain", Description: "a volume", Backend: fixed{size: 1 << 20, min: 1}},
		{Name: "ro", ReadOnly: true, Backend: fixedCache{fixed{size: 4096, min: 512}}},
		{Name: "strict", Backend: fixedState{fixed{size: 1 << 30, min: 4096}}},
	} {
		if err := set.Add(e); err != nil {
			panic(err)
		}
	}
	return set
}

var optionNames = map[string]uint32{
	"export-name": optExportName, "abort": optAbort, "list": optList, "starttls": optStartTLS,
	"info": optInfo, "go": optGo, "structured": optStructuredReply, "list-meta": optListMeta, "set-meta": optSetMeta,
}

// TestHandshake runs scripts: `new [tls|tls-optional]` starts over, `flags HEX` answers the greeting,
// `secured` tells that TLS runs, and the name of an option sends it with
// name=, wants=(…), queries=(…) or raw=HEX as its data.
func TestHandshake(t *testing.T) {
	datadriven.Walk(t, "testdata/handshake", func(t *testing.T, path string) {
		var h *handshake
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			switch d.Cmd {
			case "new":
				h = &handshake{exports: testExports(), offerTLS: d.HasArg("tls") || d.HasArg("tls-optional"), demandTLS: d.HasArg("tls")}
				return hex.EncodeToString(h.hello(nil)) + "\n"
			case "flags":
				b, _ := hex.DecodeString(d.CmdArgs[0].Key)
				if err := h.clientFlags(b); err != nil {
					return err.Error() + "\n"
				}
				return fmt.Sprintf("no zeroes: %v\n", h.noZeroes)
			case "header":
				b, _ := hex.DecodeString(d.CmdArgs[0].Key)
				opt, n, err := parseOptionHeader(b)
				return fmt.Sprintln(opt, n, err)
			case "secured":
				h.secured()
				return ""
			}
			opt, ok := optionNames[d.Cmd]
			if !ok {
				d.Fatalf(t, "unknown command")
			}
			reply, act := h.option(nil, opt, optionData(t, d))
			out := renderOptReplies(opt, reply)
			switch act {
			case actStartTLS:
				out += "-> TLS\n"
			case actClose:
				out += "-> close\n"
			case actTransmit:
				out += fmt.Sprintf("-> transmit %s structured=%v contexts=%d\n", h.chosen.Name, h.structured, h.selected)
			}
			return out
		})
	})
}

func optionData(t *testing.T, d *datadriven.TestData) []byte {
	var raw string
	if d.HasArg("raw") {
		d.ScanArgs(t, "raw", &raw)
		b, err := hex.DecodeString(raw)
		if err != nil {
			d.Fatalf(t, "%v", err)
		}
		return b
	}
	var name string
	if d.HasArg("name") {
		d.ScanArgs(t, "name", &name)
	}
	switch d.Cmd {
	case "export-name":
		return []byte(name)
	case "info", "go", "set-meta", "list-meta":
	default:
		return nil
	}
	b := append(be.AppendUint32(nil, uint32(len(name))), name...)
	for _, a := range d.CmdArgs {
		switch a.Key {
		case "wants":
			b = be.AppendUint16(b, uint16(len(a.Vals)))
			for i := range a.Vals {
				var w int
				a.Scan(t, i, &w)
				b = be.AppendUint16(b, uint16(w))
			}
			return b
		case "queries":
			b = be.AppendUint32(b, uint32(len(a.Vals)))
			for _, q := range a.Vals {
				b = append(be.AppendUint32(b, uint32(len(q))), q...)
			}
			return b
		}
	}
	if d.Cmd == "info" || d.Cmd == "go" {
		return be.AppendUint16(b, 0)
	}
	return be.AppendUint32(b, 0)
}

// renderOptReplies prints replies one a line; a reply to EXPORT_NAME has no frame.
func renderOptReplies(opt uint32, b []byte) string {
	if len(b) == 0 {
		return ""
	}
	if opt == optExportName {
		return fmt.Sprintf("size %d flags %#x and %d zeroes\n", be.Uint64(b), be.Uint16(b[8:]), len(b)-10)
	}
	var out strings.Builder
	for len(b) > 0 {
		if be.Uint64(b) != magicOptReply || be.Uint32(b[8:]) != opt {
			return "bad frame " + hex.EncodeToString(b) + "\n"
		}
		kind, n := be.Uint32(b[12:]), be.Uint32(b[16:])
		body := b[20 : 20+n]
		b = b[20+n:]
		switch {
		case kind == repAck:
			fmt.Fprintf(&out, "ack%s\n", body)
		case kind == repServer:
			k := be.Uint32(body)
			fmt.Fprintf(&out, "server %q %q\n", body[4:4+k], body[4+k:])
		case kind == repMeta:
			fmt.Fprintf(&out, "context %d %q\n", be.Uint32(body), body[4:])
		case kind == repInfo && be.Uint16(body) == infoExport:
			fmt.Fprintf(&out, "info export size %d flags %#x\n", be.Uint64(body[2:]), be.Uint16(body[10:]))
		case kind == repInfo && be.Uint16(body) == infoBlockSize:
			fmt.Fprintf(&out, "info block size %d %d %d\n", be.Uint32(body[2:]), be.Uint32(body[6:]), be.Uint32(body[10:]))
		case kind == repInfo:
			fmt.Fprintf(&out, "info %d %q\n", be.Uint16(body), body[2:])
		default:
			fmt.Fprintf(&out, "error %d %s\n", kind&^(1<<31), body)
		}
	}
	return out.String()
}
