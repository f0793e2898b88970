package api

// MethodProbe loads every program of the dataplane once. Its request is empty, its reply ProbeReply.
const MethodProbe = "programs.probe"

// ProbeReply answers MethodProbe.
type ProbeReply struct {
	Kernel   string    `json:"kernel"`
	Programs []Program `json:"programs"`
}

// Program is one BPF program.
type Program struct {
	Object string `json:"object"`
	Name   string `json:"name"`
	Type   string `json:"type"`
	// LoadMS is the time to load its whole object, in milliseconds.
	LoadMS int64 `json:"load_ms"`
	// Verifier is what the kernel says about a program that it takes.
	Verifier string `json:"verifier,omitempty"`
	// Problem is why the kernel refuses it.
	Problem string `json:"problem,omitempty"`
}
