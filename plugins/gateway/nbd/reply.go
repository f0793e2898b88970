package nbd

import "bytes"

// Encoders append to dst and return it, as append does. They allocate only when dst is full.

func appendSimple(dst []byte, errno uint32, cookie uint64) []byte {
	dst = be.AppendUint32(dst, magicSimple)
	dst = be.AppendUint32(dst, errno)
	return be.AppendUint64(dst, cookie)
}

func appendChunk(dst []byte, flags, kind uint16, cookie uint64, n uint32) []byte {
	dst = be.AppendUint32(dst, magicStructured)
	dst = be.AppendUint16(dst, flags)
	dst = be.AppendUint16(dst, kind)
	dst = be.AppendUint64(dst, cookie)
	return be.AppendUint32(dst, n)
}

// appendDone answers a request that has no data to return. Clients that negotiated
// structured replies get one for READ and BLOCK_STATUS, where the protocol demands it, and
// for every error, so that the message reaches a person.
func appendDone(dst []byte, structured bool, r request, errno uint32, message string) []byte {
	if !structured || (errno == 0 && r.cmd != CmdRead && r.cmd != CmdBlockStatus) {
		return appendSimple(dst, errno, r.cookie)
	}
	if errno == 0 {
		return appendChunk(dst, replyDone, chunkNone, r.cookie, 0)
	}
	if len(message) > maxErrorMessage {
		message = message[:maxErrorMessage]
	}
	dst = appendChunk(dst, replyDone, chunkError, r.cookie, uint32(6+len(message)))
	dst = be.AppendUint32(dst, errno)
	dst = be.AppendUint16(dst, uint16(len(message)))
	return append(dst, message...)
}

// readHeader appends what stands before the data of a successful READ.
func readHeader(dst []byte, structured bool, r request) []byte {
	if !structured {
		return appendSimple(dst, 0, r.cookie)
	}
	dst = appendChunk(dst, r.lastChunk(), chunkOffsetData, r.cookie, 8+r.n)
	return be.AppendUint64(dst, r.off)
}

// lastChunk is the flag of the last of the chunks that answer r.
func (r request) lastChunk() uint16 {
	if r.part {
		return 0
	}
	return replyDone
}

// readHeaderLen is the length of readHeader.
func readHeaderLen(structured bool) int {
	if structured {
		return offsetDataLen
	}
	return simpleLen
}

func appendHole(dst []byte, flags uint16, cookie, off uint64, n uint32) []byte {
	dst = appendChunk(dst, flags, chunkOffsetHole, cookie, 12)
	dst = be.AppendUint64(dst, off)
	return be.AppendUint32(dst, n)
}

// sparseUnit is the smallest hole worth a chunk of its own inside a reply with data. A
// smaller one would cost more in headers and client work than it saves.
const sparseUnit = 32 << 10

var zeroUnit [sparseUnit]byte

// allZero reports whether p holds only zeroes. Data that is not zero nearly always differs in
// its first bytes, so the test is cheap for it.
func allZero(p []byte) bool {
	for len(p) > sparseUnit {
		if !bytes.Equal(p[:sparseUnit], zeroUnit[:]) {
			return false
		}
		p = p[sparseUnit:]
	}
	return bytes.Equal(p, zeroUnit[:len(p)])
}

// hasHole reports whether appendSparse would send less than a plain reply: one unit of the
// data, or all of it when it is shorter, is zero. With whole set only all of it counts.
func hasHole(data []byte, whole bool) bool {
	if whole || len(data) < sparseUnit {
		return len(data) > offsetHoleLen && allZero(data)
	}
	for len(data) >= sparseUnit {
		if allZero(data[:sparseUnit]) {
			return true
		}
		data = data[sparseUnit:]
	}
	return false
}

// appendSparse answers a structured READ with OFFSET_DATA and OFFSET_HOLE chunks, the last
// of which ends the reply, unless r is a part. Together they cover data exactly once.
func appendSparse(dst []byte, r request, data []byte) []byte {
	for pos := 0; pos < len(data); {
		end, zero := zeroRun(data, pos)
		var flags uint16
		if end == len(data) {
			flags = r.lastChunk()
		}
		off := r.off + uint64(pos)
		if zero {
			dst = appendHole(dst, flags, r.cookie, off, uint32(end-pos))
		} else {
			dst = appendChunk(dst, flags, chunkOffsetData, r.cookie, uint32(8+end-pos))
			dst = be.AppendUint64(dst, off)
			dst = append(dst, data[pos:end]...)
		}
		pos = end
	}
	return dst
}

// zeroRun returns the end of the run of units that starts at pos and whether they are zero.
func zeroRun(data []byte, pos int) (end int, zero bool) {
	unit := func(at int) (int, bool) {
		e := min(at+sparseUnit, len(data))
		return e, allZero(data[at:e])
	}
	end, zero = unit(pos)
	for end < len(data) {
		e, z := unit(end)
		if z != zero {
			break
		}
		end = e
	}
	return end, zero
}
