package nbd

import "strings"

// contexts is a set of metadata contexts, which BLOCK_STATUS describes a range in.
type contexts uint8

const (
	ctxAllocation contexts = 1 << iota
	ctxState
)

// contextNames are in the order in which clients see them. The id is what stands in replies.
var contextNames = [...]struct {
	ctx  contexts
	name string
	id   uint32
}{
	{ctxAllocation, "base:allocation", 1},
	{ctxState, "ratchet:state", 2},
}

// contexts returns those that the export offers.
func (e *Export) contexts() contexts {
	if _, ok := e.Backend.(StateReporter); ok {
		return ctxAllocation | ctxState
	}
	return ctxAllocation
}

// matching returns what a client's query names. A namespace alone names all that is in it, but only in a question:
// to select, a client has to say which one it means.
func matching(query string, question bool) contexts {
	var set contexts
	for _, c := range contextNames {
		if query == c.name || question && strings.HasSuffix(query, ":") && strings.HasPrefix(c.name, query) {
			set |= c.ctx
		}
	}
	return set
}

// described is a piece of a description: how long, and the flags of its context.
type described interface {
	describe() (n uint64, flags uint32)
}

func (e Extent) describe() (uint64, uint32) {
	var s uint32
	if e.Hole {
		s |= stateHole
	}
	if e.Zero {
		s |= stateZero
	}
	return e.Len, s
}

func (e StateExtent) describe() (uint64, uint32) { return e.Len, uint32(e.State) }

// appendStatus answers BLOCK_STATUS in one context: neighbours in one state are joined, the list is cut at the
// request's end, at maxExtents, and after the first for REQ_ONE. A backend that says nothing gets one run of flags 0
// for all of it, which is true in each of our contexts. last ends the reply.
func appendStatus[R described](dst []byte, r request, id uint32, last bool, runs []R) []byte {
	var flags uint16
	if last {
		flags = replyDone
	}
	head := len(dst)
	dst = appendChunk(dst, flags, chunkStatus, r.cookie, 0)
	dst = be.AppendUint32(dst, id)
	var (
		left  = uint64(r.n)
		count int
		n     uint64
		state uint32
	)
	emit := func() {
		dst = be.AppendUint32(dst, uint32(n))
		dst = be.AppendUint32(dst, state)
		count++
	}
	for _, e := range runs {
		k, s := e.describe()
		if k = min(k, left); k == 0 {
			continue
		}
		if n == 0 {
			state = s
		} else if s != state {
			emit()
			n, state = 0, s
			if count == maxExtents || r.flags&cmdReqOne != 0 {
				break
			}
		}
		n += k
		left -= k
	}
	if count == 0 && n == 0 {
		n, state = uint64(r.n), 0
	}
	if n > 0 {
		emit()
	}
	be.PutUint32(dst[head+structuredLen-4:], uint32(4+count*extentDescriptor))
	return dst
}
