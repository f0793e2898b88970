package api

import "time"

// Methods about who may attach to a volume and who may write.
const (
	MethodHandover = "volumes.handover" // request HandoverRequest, reply HandoverReply
	MethodWriters  = "volumes.writers"  // request VolumeRequest, reply WritersReply
	MethodMake     = "tokens.make"      // request TokenRequest, reply MadeToken
	MethodRevoke   = "tokens.revoke"    // request TokenRequest, reply empty
	MethodTokens   = "tokens.list"      // request VolumeRequest, reply TokensReply
	MethodOpen     = "tokens.open"      // request VolumeRequest, reply empty: lets everyone in and write again
)

// HandoverRequest takes the right to write from one identity and gives it to another. It may be repeated.
type HandoverRequest struct {
	Name string `json:"name"`
	From string `json:"from"`
	To   string `json:"to"`
}

// HandoverReply says under which epoch the new writer writes.
type HandoverReply struct {
	Epoch  uint64 `json:"epoch"`
	Writer string `json:"writer"`
}

// WritersReply is the log of writes by epoch since the gateway's start, the current one last.
type WritersReply struct {
	Terms       []Term         `json:"terms"`
	Connections map[string]int `json:"connections"`      // by identity; "" is without a token
	Writer      string         `json:"writer,omitempty"` // who alone may write now, after a handover
}

// Term is one epoch: requests that changed data and those that were refused, by identity.
type Term struct {
	Epoch   uint64            `json:"epoch"`
	Writes  map[string]uint64 `json:"writes"`
	Refused map[string]uint64 `json:"refused"`
}

// TokenRequest names a token by whose it is.
type TokenRequest struct {
	Name     string `json:"name"`
	Identity string `json:"identity"`
	ReadOnly bool   `json:"read_only,omitempty"` // MethodMake alone
}

// MadeToken is shown once; the secret is not kept.
type MadeToken struct {
	Secret string `json:"secret"`
	Export string `json:"export"` // the export name that the client asks for
}

// TokensReply lists who has a token.
type TokensReply struct {
	Tokens []Token `json:"tokens"`
	Closed bool    `json:"closed"`           // a token is needed, even if there is none any more
	Writer string  `json:"writer,omitempty"` // who alone may write, after a handover
}

// Token is what is known of one.
type Token struct {
	Identity string    `json:"identity"`
	ReadOnly bool      `json:"read_only"`
	Made     time.Time `json:"made"`
}
