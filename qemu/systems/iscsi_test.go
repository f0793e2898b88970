package systems

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// initiator is as much of an iSCSI initiator as it takes to send single SCSI commands: no tool of Debian sends PERSISTENT
// RESERVE OUT with the bit that asks for its keeping, or shows a unit attention. Names and numbers are those of RFC 7143.
type initiator struct {
	t      *testing.T
	conn   net.Conn
	cmdSN  uint32
	statSN uint32
	tag    uint32
}

const headerLen = 48

// logIn opens a session for the initiator of a name.
func logIn(t *testing.T, address, name, target string) *initiator {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	must(t, err)
	t.Cleanup(func() { conn.Close() })
	must(t, conn.SetDeadline(time.Now().Add(stepLimit)))
	i := &initiator{t: t, conn: conn, cmdSN: 1}
	const operational, full = 1, 3
	for _, stage := range []struct {
		from, to byte
		keys     []string
	}{
		{0, operational, []string{"InitiatorName=" + name, "TargetName=" + target, "SessionType=Normal", "AuthMethod=None"}},
		// All of them: what the initiator leaves out the target proposes, and wants an answer.
		{operational, full, []string{
			"HeaderDigest=None", "DataDigest=None", "InitialR2T=No", "ImmediateData=Yes", "MaxRecvDataSegmentLength=65536", "MaxConnections=1",
			"MaxBurstLength=262144", "FirstBurstLength=65536", "DefaultTime2Wait=2", "DefaultTime2Retain=0", "MaxOutstandingR2T=1",
			"DataPDUInOrder=Yes", "DataSequenceInOrder=Yes", "ErrorRecoveryLevel=0", "IFMarker=No", "OFMarker=No",
		}},
	} {
		text := []byte(strings.Join(stage.keys, "\x00") + "\x00")
		for through, tries := false, 0; !through; tries++ {
			if tries == 4 {
				t.Fatalf("login of %s at %s: the target stays in stage %d", name, target, stage.from)
			}
			h := make([]byte, headerLen)
			h[0], h[1] = 0x43, 0x80|stage.from<<2|stage.to // login request, immediate; transit
			copy(h[8:], []byte{0x40, 0, 0, 1, 0, 0})       // initiator session id: random kind
			binary.BigEndian.PutUint32(h[24:], i.cmdSN)
			i.send(h, text)
			h, _ = i.receive(0x23)
			if h[36] != 0 {
				t.Fatalf("login of %s at %s: status %d/%d", name, target, h[36], h[37])
			}
			// The target may have keys of its own to declare first.
			through, text = h[1]&0x80 != 0, nil
		}
	}
	return i
}

// command sends a SCSI command with data and returns its status and sense, as "key/asc/ascq".
func (i *initiator) command(cdb, out []byte, read int) (status byte, sense string, in []byte) {
	i.t.Helper()
	must(i.t, i.conn.SetDeadline(time.Now().Add(stepLimit)))
	h := make([]byte, headerLen)
	h[0], h[1] = 0x01, 0x81 // SCSI command; final, simple task
	length := read
	if len(out) > 0 {
		h[1] |= 0x20
		length = len(out)
	} else if read > 0 {
		h[1] |= 0x40
	}
	binary.BigEndian.PutUint32(h[20:], uint32(length))
	binary.BigEndian.PutUint32(h[24:], i.cmdSN)
	i.cmdSN++
	copy(h[32:], cdb)
	i.send(h, out)
	for {
		h, data := i.receive(0x21, 0x25)
		if h[0]&0x3f == 0x25 { // data in; status may come with it
			in = append(in, data...)
			if h[1]&0x01 != 0 {
				return h[3], "", in
			}
			continue
		}
		if len(data) >= 16 {
			sense = fmt.Sprintf("%x/%02x/%02x", data[2+2]&0x0f, data[2+12], data[2+13])
		}
		return h[3], sense, in
	}
}

// send sends one PDU.
func (i *initiator) send(h, data []byte) {
	i.t.Helper()
	if h[0]&0x3f != 0x03 { // all of a login is one task
		i.tag++
	}
	h[5], h[6], h[7] = byte(len(data)>>16), byte(len(data)>>8), byte(len(data))
	binary.BigEndian.PutUint32(h[16:], i.tag)
	binary.BigEndian.PutUint32(h[28:], i.statSN)
	_, err := i.conn.Write(append(h, pad(data)...))
	must(i.t, err)
}

func pad(p []byte) []byte { return append(p, make([]byte, -len(p)&3)...) }

// receive takes the next PDU, which must be one of the wanted kinds; a target's pings are left unanswered.
func (i *initiator) receive(kinds ...byte) (h, data []byte) {
	i.t.Helper()
	for {
		h = make([]byte, headerLen)
		_, err := io.ReadFull(i.conn, h)
		must(i.t, err)
		n := int(h[5])<<16 | int(h[6])<<8 | int(h[7])
		data = pad(make([]byte, n))
		_, err = io.ReadFull(i.conn, data)
		must(i.t, err)
		data = data[:n]
		i.statSN = binary.BigEndian.Uint32(h[24:]) + 1
		for _, k := range kinds {
			if h[0]&0x3f == k {
				return h, data
			}
		}
		if h[0]&0x3f != 0x20 {
			i.t.Fatalf("PDU of kind %#x, wanted one of %#x", h[0]&0x3f, kinds)
		}
	}
}

// SCSI statuses and the sense that a LUN reports once.
const (
	good                = 0x00
	checkCondition      = 0x02
	reservationConflict = 0x18
)

// ready sends TEST UNIT READY until there is nothing left to report, and returns what was.
func (i *initiator) ready() (attentions []string) {
	i.t.Helper()
	for range 8 {
		status, sense, _ := i.command(make([]byte, 6), nil, 0)
		if status == good {
			return attentions
		}
		attentions = append(attentions, sense)
	}
	i.t.Fatalf("the unit is not ready: %v", attentions)
	return nil
}

// Service actions of PERSISTENT RESERVE OUT, and the kind of reservation that is used.
const (
	prRegister     = 0x00
	prReserve      = 0x01
	prClear        = 0x03
	writeExclusive = 0x01
	aptpl          = 0x01 // keep it through a loss of power
)

// persistent sends one PERSISTENT RESERVE OUT.
func (i *initiator) persistent(action, kind byte, key, newKey uint64, flags byte) {
	i.t.Helper()
	p := make([]byte, 24)
	binary.BigEndian.PutUint64(p, key)
	binary.BigEndian.PutUint64(p[8:], newKey)
	p[20] = flags
	if status, sense, _ := i.command([]byte{0x5f, action, kind, 0, 0, 0, 0, 0, byte(len(p)), 0}, p, 0); status != good {
		i.t.Fatalf("persistent reserve out, action %d: status %#x, sense %s", action, status, sense)
	}
}

// keys are those that are registered.
func (i *initiator) keys() (keys []uint64) {
	i.t.Helper()
	status, sense, in := i.command([]byte{0x5e, 0, 0, 0, 0, 0, 0, 0x01, 0, 0}, nil, 256)
	if status != good || len(in) < 8 {
		i.t.Fatalf("persistent reserve in: status %#x, sense %s, %d bytes", status, sense, len(in))
	}
	for p := in[8:min(len(in), 8+int(binary.BigEndian.Uint32(in[4:])))]; len(p) >= 8; p = p[8:] {
		keys = append(keys, binary.BigEndian.Uint64(p))
	}
	return keys
}

// write writes the first sector and returns the status.
func (i *initiator) write() byte {
	i.t.Helper()
	status, _, _ := i.command([]byte{0x2a, 0, 0, 0, 0, 0, 0, 0, 1, 0}, make([]byte, 512), 0)
	return status
}
