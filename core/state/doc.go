// Package state keeps small durable facts: what core must remember over restarts (plugin
// user ids, start epochs) and each plugin's own key-value space behind the Host service.
//
// It is for control state, a few hundred keys of at most 1 MiB; volumes and logs have
// stores of their own. A [Store] is divided into spaces, and a space into keys; a space
// that was never written is empty. Every method is safe for concurrent use. Put and Delete
// return when the change survives a power cut.
//
// [Open] keeps one bbolt file; [NewMemory] is for a box without a state partition, where
// nothing can be remembered. A fleet's store will be a third implementation behind the same
// interface. One conformance suite (package statetest) holds all of them to this text.
package state
