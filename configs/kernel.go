package configs

import _ "embed"

// KernelLock names the kernel package of each flavour (YAML, read by image/kernel).
//
//go:embed kernel.lock
var KernelLock []byte
