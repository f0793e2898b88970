package engine

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"hash/fnv"
)

// token proves after a restart that this agent granted a lease: without its key nobody can make one, and it is of use
// to the named consumer only.
func (o BookOptions) token(service, producer, host string) uint64 {
	m := hmac.New(sha256.New, o.Key[:])
	for _, s := range []string{service, producer, host} {
		m.Write([]byte{byte(len(s))}) // names do not run into each other
		m.Write([]byte(s))
	}
	return binary.BigEndian.Uint64(m.Sum(nil))
}

func hash(words ...string) uint64 {
	h := fnv.New64a()
	for _, w := range words {
		h.Write([]byte{byte(len(w))})
		h.Write([]byte(w))
	}
	return h.Sum64()
}

// mutant is a deliberate break of one invariant. Tests prove with it that they would notice; nothing outside this
// package's tests can set it.
type mutant uint8

const (
	mutantNone     mutant = iota
	mutantReceipt         // D5: a consumer counts from the receipt of the grant
	mutantOverlap         // D5: every agent is given the whole quota
	mutantForget          // an agent that restarts grants at once
	mutantAnyReply        // a consumer takes answers to requests it has repeated
)
