package boot

import (
	"encoding/json"
	"testing"

	"github.com/ratchetos/ratchet/boot/internal/signtest"
)

func TestParsePolicy(t *testing.T) {
	b, err := json.Marshal(signtest.Keys(t))
	if err != nil {
		t.Fatal(err)
	}
	keys := `"policy_keys":` + string(b)
	for _, c := range []struct {
		name, text string
		ok         bool
	}{
		{"good_release", `{"version":"1","flavour":"full","tpm":"required","development":false,"security_version":63,` + keys + `}`, true},
		{"good_development", `{"version":"1","tpm":"optional","development":true,"recovery_key":"K"}`, true},
		{"bad_optional_release", `{"version":"1","tpm":"optional",` + keys + `}`, false},
		{"bad_no_tpm", `{"version":"1",` + keys + `}`, false},
		{"bad_key_in_release", `{"tpm":"required","recovery_key":"K",` + keys + `}`, false},
		{"bad_release_without_policy_keys", `{"version":"1","tpm":"required"}`, false},
		{"bad_policy_keys", `{"tpm":"required","development":true,"policy_keys":["one"]}`, false},
		{"bad_security_version", `{"tpm":"required","security_version":64,` + keys + `}`, false},
		{"good_quarantine_nic", `{"tpm":"required","quarantine_nic":"pci:0000:03:00.1",` + keys + `}`, true},
		{"bad_quarantine_nic", `{"tpm":"required","quarantine_nic":"eth0",` + keys + `}`, false},
		{"bad_quarantine_nic_tail", `{"tpm":"required","quarantine_nic":"pci:0000:03:00.1/../..",` + keys + `}`, false},
		{"bad_unknown", `{"tpm":"required","debug":true,` + keys + `}`, false},
		{"bad_json", `{`, false},
	} {
		if _, err := ParsePolicy([]byte(c.text)); (err == nil) != c.ok {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}
