package api

import (
	"testing"

	"github.com/ratchetos/ratchet/core/api/pki"
)

func TestLocalRole(t *testing.T) {
	for _, test := range []struct {
		caller, own int
		want        pki.Role
	}{{0, 0, pki.Admin}, {0, 1000, pki.Admin}, {1000, 1000, pki.Admin}, {1000, 0, pki.Viewer}, {1001, 1000, pki.Viewer}} {
		if got := localRole(test.caller, test.own); got != test.want {
			t.Errorf("uid %d calling core of uid %d: %s, want %s", test.caller, test.own, got, test.want)
		}
	}
}

func TestUnknownProceduresAreRefused(t *testing.T) {
	for _, p := range []string{"", "/", "/ratchet.api.v1.System/Explode", "/debug/pprof"} {
		if _, known := requiredRole(p); known {
			t.Errorf("%q is open to somebody", p)
		}
	}
}
