package dataplane

import (
	"encoding/json"
	"testing"

	"github.com/ratchetos/ratchet/plugins/dataplane/api"
)

// This machine's kernel takes every program; that of the image is asked in qemu/systems.
func TestProbe(t *testing.T) {
	out, err := probe()
	if err != nil {
		t.Fatal(err)
	}
	var r api.ProbeReply
	if err := json.Unmarshal(out, &r); err != nil {
		t.Fatal(err)
	}
	if r.Kernel == "" || len(r.Programs) < len(objects()) {
		t.Errorf("probed %+v", r)
	}
	for _, p := range r.Programs {
		if p.Problem != "" {
			t.Errorf("%s of %s: %s", p.Name, p.Object, p.Problem)
		}
		t.Logf("%s/%s: %d ms %s", p.Object, p.Name, p.LoadMS, p.Verifier)
	}
}
