// Package configs embeds the tables that ship inside the one binary.
package configs

import _ "embed"

// Hardware is hardware.yaml, the hardware catalogue; package hw/catalogue reads it.
//
//go:embed hardware.yaml
var Hardware []byte
