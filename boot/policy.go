package boot

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
)

// Paths in the initramfs, which is measured into PCR 11.
const (
	policyPath    = "/etc/ratchet/policy.json"
	appliancePath = "/etc/ratchet/appliance.yaml"
)

// Policy is baked into the image; nothing on a disk, in firmware variables or on the command line
// can change it.
type Policy struct {
	Version string `json:"version"` // of the image
	Flavour string `json:"flavour"` // "cloud" or "full"
	// TPM is "required", or in a development image "optional".
	TPM string `json:"tpm"`
	// Development lets the image provision a box by itself, loudly, with RecoveryKey.
	Development bool   `json:"development"`
	RecoveryKey string `json:"recovery_key,omitempty"`
	// QuarantineNIC is the place ("pci:0000:00:03.0") of the one NIC that is bound on an isolated box;
	// empty for none.
	QuarantineNIC string `json:"quarantine_nic,omitempty"`
}

// ParsePolicy reads a policy; unknown fields are errors, since ignoring one could weaken it.
func ParsePolicy(b []byte) (Policy, error) {
	var p Policy
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&p); err != nil {
		return Policy{}, fmt.Errorf("parse policy: %w", err)
	}
	if p.TPM != "required" && (p.TPM != "optional" || !p.Development) {
		return Policy{}, fmt.Errorf("parse policy: tpm is %q, want \"required\"", p.TPM)
	}
	if p.RecoveryKey != "" && !p.Development {
		return Policy{}, fmt.Errorf("parse policy: a release image must not hold a recovery key")
	}
	return p, nil
}

func readPolicy() (Policy, error) {
	b, err := os.ReadFile(policyPath)
	if err != nil {
		return Policy{}, fmt.Errorf("read policy: %w", err)
	}
	return ParsePolicy(b)
}
