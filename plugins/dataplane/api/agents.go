package api

import (
	"strconv"
	"time"
)

// Methods about the hosts that talk to the box.
const (
	MethodAgents = "agents.list"   // empty → AgentsReply
	MethodEnroll = "agents.enroll" // AgentRequest → EnrollReply
	MethodRevoke = "agents.revoke" // AgentRequest → empty
)

// AgentRequest names a host.
type AgentRequest struct {
	Name string `json:"name"`
}

// EnrollReply answers MethodEnroll.
type EnrollReply struct {
	// Identity is the host's file, PEM, with its private key; the box does not keep it.
	Identity string `json:"identity"`
}

// AgentsReply answers MethodAgents, by name.
type AgentsReply struct {
	Agents []Agent `json:"agents"`
}

// Agent is one enrolled host.
type Agent struct {
	Name    string `json:"name"`
	Joined  bool   `json:"joined"`
	Address string `json:"address,omitempty"` // proven last
	// SilentMS is the time since its last proven word in milliseconds, -1 if there was none.
	SilentMS  int64  `json:"silent_ms"`
	Sessions  uint64 `json:"sessions"`
	Calls     uint64 `json:"calls"`
	Datagrams uint64 `json:"datagrams"`
	Replayed  uint64 `json:"replayed"`
	Forged    uint64 `json:"forged"`
}

// AgentColumns are the columns of a table of hosts; Cells is one row.
func AgentColumns() []string {
	return []string{"HOST", "JOINED", "ADDRESS", "SILENT", "SESSIONS", "CALLS", "DATAGRAMS", "REFUSED"}
}

// Cells is one row.
func (a Agent) Cells() []string {
	joined, silent := "no", "never heard"
	if a.Joined {
		joined = "yes"
	}
	if a.SilentMS >= 0 {
		silent = (time.Duration(a.SilentMS) * time.Millisecond).String()
	}
	u := func(n uint64) string { return strconv.FormatUint(n, 10) }
	return []string{a.Name, joined, a.Address, silent, u(a.Sessions), u(a.Calls), u(a.Datagrams), u(a.Replayed + a.Forged)}
}
