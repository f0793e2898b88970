package configs

import _ "embed"

// Demo is demo.yaml, the configuration of `make run`. Its users put the ports and keys of
// their run in place of the ones that are written there.
//
//go:embed demo.yaml
var Demo []byte
