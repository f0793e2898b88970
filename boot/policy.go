package boot

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"

	"github.com/ratchetos/ratchet/boot/bundle"
	"github.com/ratchetos/ratchet/boot/counter"
	"github.com/ratchetos/ratchet/boot/pcrsig"
	"github.com/ratchetos/ratchet/boot/request"
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
	// SecurityVersion is this image's, 0 to 63: V refuses those below what the box has moved on to.
	SecurityVersion uint `json:"security_version,omitempty"`
	// PolicyKeys are the public keys, active and spare, that sign the PCR policies of images (PEM,
	// P-256). Without them an image may write nothing and unseal nothing.
	PolicyKeys []string `json:"policy_keys,omitempty"`
	// BundleKeys are the public keys that sign updates (PEM, P-256); any of them will do.
	BundleKeys []string `json:"bundle_keys,omitempty"`
	// Fault makes a development image fail on purpose; see fault.go.
	Fault string `json:"fault,omitempty"`
	// QuarantineNIC is the place ("pci:0000:00:03.0") of the one NIC that is bound on an isolated box;
	// empty for none.
	QuarantineNIC string `json:"quarantine_nic,omitempty"`
	// OwnerKeys are the public keys that sign requests to init and provisioning tokens (PEM, P-256).
	OwnerKeys []string `json:"owner_keys,omitempty"`
	// RecoveryWait is for how many seconds an isolated box offers its recovery console; 0 means 10.
	RecoveryWait uint `json:"recovery_wait,omitempty"`
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
	if p.SecurityVersion > counter.MaxVersion {
		return Policy{}, fmt.Errorf("parse policy: security version %d, at most %d", p.SecurityVersion, counter.MaxVersion)
	}
	if _, err := request.Keys(p.OwnerKeys); err != nil {
		return Policy{}, fmt.Errorf("parse policy: %w", err)
	}
	if p.QuarantineNIC != "" && !isPlace(p.QuarantineNIC) {
		return Policy{}, fmt.Errorf("parse policy: quarantine_nic %q is no place, as pci:0000:00:03.0", p.QuarantineNIC)
	}
	if p.RecoveryWait > 3600 {
		return Policy{}, fmt.Errorf("parse policy: recovery_wait is %d s, at most an hour", p.RecoveryWait)
	}
	if len(p.PolicyKeys) == 0 && !p.Development {
		return Policy{}, fmt.Errorf("parse policy: a release image needs policy keys")
	}
	if len(p.PolicyKeys) != 0 {
		if _, err := pcrsig.ParseKeys(p.PolicyKeys); err != nil {
			return Policy{}, fmt.Errorf("parse policy: %w", err)
		}
	}
	if _, err := bundle.ParseKeys(p.BundleKeys); err != nil {
		return Policy{}, fmt.Errorf("parse policy: %w", err)
	}
	if err := checkFault(p); err != nil {
		return Policy{}, fmt.Errorf("parse policy: %w", err)
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

// isPlace says whether s is the place of a PCI function.
func isPlace(s string) bool {
	var domain, bus, device, function uint
	n, err := fmt.Sscanf(s, "pci:%04x:%02x:%02x.%1x", &domain, &bus, &device, &function)
	return err == nil && n == 4 && s == fmt.Sprintf("pci:%04x:%02x:%02x.%x", domain, bus, device, function) && device < 32 && function < 8
}
