// Package config reads the one configuration of an appliance: a strict YAML document in
// which every mistake is reported at its line and column, all of them in one pass.
//
// The way of a document:
//
//	bytes → YAML tree with positions → JSON → package strict → Config
//	                                                   └ per plugin: its section as JSON → Validate → Wants
//
// Parse does the first line, Check the second. A plugin's section stays opaque to core: the
// plugin reports mistakes by path inside its section, Source turns paths into positions.
// Check then looks at what only core can see: hardware that is not there or not supported,
// and hardware or sockets that two parties want.
//
// YAML is read narrowly. Anchors, aliases, merge keys and tags are refused (what is applied
// must be what is read, and an alias bomb is not worth defusing), keys must be unique,
// there is one document, at most MaxSize bytes and maxDepth levels. Everything here is pure
// but for the Checker's functions; no state, safe for concurrent use.
package config
