package attach

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"
)

const secretOf7 = "0123456789ABCDEFGHJKMNPQRS"

func sampleRegistry(t testing.TB) (r Registry) {
	now := time.Date(2026, 11, 22, 8, 0, 0, 0, time.UTC)
	for _, err := range []error{r.Make("vol", "host-7", ReadWrite, secretOf7, now), r.Make("vol", "backup", ReadOnly, secretOf7+"x", now)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return r
}

// FuzzExportName takes export names as strangers send them: nobody gets in to a closed volume but with a secret of it.
func FuzzExportName(f *testing.F) {
	for _, name := range []string{"", "vol", "vol@" + secretOf7, "vol@" + secretOf7 + "x", "@" + secretOf7, "vol@@", "vol@" + strings.ToLower(secretOf7), "other@" + secretOf7} {
		f.Add(name)
	}
	r := sampleRegistry(f)
	f.Fuzz(func(t *testing.T, name string) {
		volume, secret, hasSecret := Split(name)
		if hasSecret && ExportName(volume, secret) != name || !hasSecret && volume != name {
			t.Fatalf("%q comes apart as %q and %q", name, volume, secret)
		}
		token, ok := r.Identify(volume, secret)
		if want := map[string]string{ExportName("vol", secretOf7): "host-7", ExportName("vol", secretOf7+"x"): "backup"}[name]; ok != (want != "") || token.Identity != want {
			t.Fatalf("%q is %q, %t", name, token.Identity, ok)
		}
	})
}

// FuzzRegistry takes the tokens as they were kept: what is read can be kept again, and a volume that wants a token still
// does.
func FuzzRegistry(f *testing.F) {
	kept, err := json.Marshal(sampleRegistry(f))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(kept)
	f.Add([]byte(`{"version":1,"volumes":{"vol":null}}`))
	f.Add([]byte(`{"version":2}`))
	f.Fuzz(func(t *testing.T, p []byte) {
		var r, again Registry
		if json.Unmarshal(p, &r) != nil {
			return
		}
		kept, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(kept, &again); err != nil || !reflect.DeepEqual(r, again) {
			t.Fatalf("%+v, then %+v, %v", r, again, err)
		}
		for volume := range r.closed {
			if !again.Closed(volume) {
				t.Fatalf("volume %q is open after it was kept", volume)
			}
		}
	})
}
