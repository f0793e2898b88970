package vm

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestParseUsernet(t *testing.T) {
	got, err := parseUsernet(`Hub -1 (net0):
  Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ
  TCP[HOST_FORWARD]  14       127.0.0.1 34567       10.0.2.15    22     0     0
  TCP[ESTABLISHED]   15       127.0.0.1 34567       10.0.2.15    22     0     0
  TCP[HOST_FORWARD]  16       127.0.0.1  8080       10.0.2.15    80     0     0
  UDP[10 sec]        17       10.0.2.15  4242        10.0.2.3    53     0     0
`)
	want := []forward{{"127.0.0.1:34567", 22}, {"127.0.0.1:8080", 80}}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(forward{})); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
	for _, bad := range []string{"TCP[HOST_FORWARD] 14", "TCP[HOST_FORWARD] 1 a 65536 b 1", "TCP[HOST_FORWARD] 1 a 1 b x"} {
		if _, err := parseUsernet(bad); err == nil {
			t.Errorf("parsed %q", bad)
		}
	}
}

func FuzzParseUsernet(f *testing.F) {
	f.Add("  TCP[HOST_FORWARD]  14  127.0.0.1 34567  10.0.2.15  22  0  0\n")
	f.Fuzz(func(t *testing.T, s string) {
		list, err := parseUsernet(s)
		for _, fw := range list {
			if err != nil || fw.guest < 0 || fw.guest > 65535 {
				t.Fatalf("%+v, %v", fw, err)
			}
		}
	})
}

func TestParseStat(t *testing.T) {
	got, err := parseStat("7 (a b) c) S 1 2 3 4 5 6 7 8 9 10 150 50 0 0 20 0")
	if err != nil || got != 2*time.Second {
		t.Errorf("%s, %v", got, err)
	}
	for _, bad := range []string{"", "7 (x) S 1", "7 (x) S 1 2 3 4 5 6 7 8 9 10 x 50 0"} {
		if _, err := parseStat(bad); err == nil {
			t.Errorf("parsed %q", bad)
		}
	}
}

func TestCachedVerdict(t *testing.T) {
	file := filepath.Join(t.TempDir(), "accel.json")
	probes := 0
	ask := func(key string, v Accel, err error) (Accel, error) {
		return cachedVerdict(file, key, func() (verdict, error) { probes++; return verdict{Accel: v}, err })
	}
	steps := []struct {
		name   string
		key    string
		finds  Accel
		fails  error
		want   Accel
		probes int
	}{
		{"not started is not kept", "a", TCG, errNotStarted, TCG, 1},
		{"first probe", "a", TCG, nil, TCG, 2},
		{"kept", "a", KVM, nil, TCG, 2},
		{"another kernel", "b", KVM, nil, KVM, 3},
		{"both kept", "a", KVM, nil, TCG, 3},
		{"interrupted", "c", TCG, errors.New("context ended"), "", 4},
	}
	for _, s := range steps {
		got, err := ask(s.key, s.finds, s.fails)
		if got != s.want || probes != s.probes || (err != nil) != (s.want == "") {
			t.Fatalf("%s: got %q, %v after %d probes, want %q after %d", s.name, got, err, probes, s.want, s.probes)
		}
	}
	if err := os.WriteFile(file, []byte("{half"), 0o644); err != nil {
		t.Fatal(err)
	}
	if got, err := ask("a", KVM, nil); got != KVM || err != nil {
		t.Fatalf("with a broken file: %q, %v", got, err)
	}
}

func TestAcceleratorOverride(t *testing.T) {
	t.Setenv(AccelEnv, "kvm")
	if a, err := Accelerator(t.Context(), Direct{}); a != KVM || err != nil {
		t.Errorf("got %q, %v", a, err)
	}
	t.Setenv(AccelEnv, "hvf")
	if _, err := Accelerator(t.Context(), Direct{}); err == nil || !strings.Contains(err.Error(), "tcg or kvm") {
		t.Errorf("got %v", err)
	}
}
