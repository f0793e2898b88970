package boot

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/binary"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"github.com/ratchetos/ratchet/boot/counter"
	"github.com/ratchetos/ratchet/boot/ledger"
	"github.com/ratchetos/ratchet/boot/request"
	"github.com/ratchetos/ratchet/boot/verdict"
)

// owner is a key that signs requests; its public half goes into the image.
func (w *world) owner() *ecdsa.PrivateKey {
	w.t.Helper()
	k := newWorldKey(w.t)
	w.policy.OwnerKeys = []string{publicPEM(w.t, k)}
	return k
}

// leave signs a request and leaves it in LEDGER, as core does.
func (w *world) leave(k *ecdsa.PrivateKey, r request.Request) string {
	w.t.Helper()
	s, err := request.Sign(k, r)
	if err != nil {
		w.t.Fatal(err)
	}
	w.leaveText(s.Text())
	return s.Text()
}

func (w *world) leaveText(text string) {
	w.t.Helper()
	m, err := ledger.OpenFile(w.path, false)
	if err == nil {
		err = errors.Join(ledger.Open(m).WriteRequest(text), m.Close())
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

// outcome is what init left of the last request; it must have been taken away.
func (w *world) outcome() string {
	w.t.Helper()
	m, err := ledger.OpenFile(w.path, true)
	if err != nil {
		w.t.Fatal(err)
	}
	defer m.Close()
	if _, err := ledger.Open(m).ReadRequest(); !errors.Is(err, ledger.ErrEmpty) {
		w.t.Errorf("the request is still there: %v", err)
	}
	out, err := ledger.Open(m).ReadOutcome()
	if err != nil {
		w.t.Errorf("no outcome: %v", err)
	}
	return out
}

// TestRequests leaves signed requests for the next boot.
func TestRequests(t *testing.T) {
	const nic = "mac:52:54:00:00:00:01"
	for _, c := range []struct {
		name    string
		attack  func(w *world)
		r       request.Request
		code    string
		outcome string
	}{
		{"validate the box", (*world).increment, request.Request{Kind: request.Validate}, "validated", "validate by owner key"},
		{"accept a rolled back disk", (*world).rollback, request.Request{Kind: request.Accept}, "accepted", "accept by owner key"},
		{"validate a rolled back disk", (*world).rollback, request.Request{Kind: request.Validate}, "ledger-differs", "refused"},
		{"accept without E", func(w *world) { w.increment(); w.forgetIndex(counter.HandleE) }, request.Request{Kind: request.Accept}, "expected-missing", "it takes the recovery key"},
		{"accept a box in order", func(*world) {}, request.Request{Kind: request.Accept}, "clean", "refused"},
		{"recover a device", func(w *world) { w.iron.behind[nicPlace][0].Firmware = "6.6" }, request.Request{Kind: request.Recover, Device: nic}, "closing", "carried out"},
		{"an unknown device", func(*world) {}, request.Request{Kind: request.Recover, Device: "mac:x"}, "closing", "no device mac:x"},
		{"erase", func(*world) {}, request.Request{Kind: request.Reset}, "ledger-factory", "destroyed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, "simulator")
			k := w.owner()
			first := w.boot()
			w.want(first, verdict.Released, "provisioned")
			c.attack(w)
			c.r.Box, c.r.Counter = first.Report.TPM.SRKName, w.counter()
			text := w.leave(k, c.r)
			r := w.boot()
			if r.Report.Box.Code != c.code {
				t.Errorf("verdict %s (%s), want %s", r.Report.Box.Code, r.Report.Box.Reason, c.code)
			}
			out := w.outcome()
			if !strings.Contains(out, c.outcome) {
				t.Errorf("outcome %q, want %q", out, c.outcome)
			}
			if !strings.Contains(out, "carried out") {
				return
			}
			// Whatever it was for, it is spent.
			w.leaveText(text)
			before := w.counter()
			w.boot()
			if out := w.outcome(); !strings.Contains(out, "refused") || !strings.Contains(out, request.ErrUsed.Error()[:20]) {
				t.Errorf("carried out twice: %q", out)
			}
			if n := w.counter(); n != before {
				t.Errorf("a request that was refused moved the counter from %d to %d", before, n)
			}
		})
	}
}

// counter reads C as anybody can.
func (w *world) counter() uint64 {
	w.t.Helper()
	p := publicC(true)
	n, err := tpm2.NVName(&p)
	if err != nil {
		w.t.Fatal(err)
	}
	h := tpm2.NamedHandle{Handle: p.NVIndex, Name: *n}
	r, err := tpm2.NVRead{AuthHandle: tpm2.AuthHandle{Handle: h.Handle, Name: h.Name, Auth: tpm2.PasswordAuth(nil)}, NVIndex: h, Size: 8}.Execute(w.tpm)
	if err != nil {
		w.t.Fatal(err)
	}
	return binary.BigEndian.Uint64(r.Data.Buffer)
}

func TestRequestsRefused(t *testing.T) {
	w := newWorld(t, "simulator")
	k := w.owner()
	first := w.boot()
	w.want(first, verdict.Released, "provisioned")
	w.increment()
	good := request.Request{Kind: request.Validate, Box: first.Report.TPM.SRKName, Counter: w.counter()}
	stranger := newWorldKey(t)
	for _, c := range []struct {
		name, outcome string
		leave         func()
	}{
		{"a stranger's", "not signed by an owner key", func() { w.leave(stranger, good) }},
		{"another box's", "made for another box", func() {
			r := good
			r.Box = hex.EncodeToString(make([]byte, 34))
			w.leave(k, r)
		}},
		{"an older one", "made for another value of the counter", func() {
			r := good
			r.Counter--
			w.leave(k, r)
		}},
		{"nonsense", "not a request", func() { w.leaveText("rm -rf /") }},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.leave()
			w.want(w.boot(), verdict.Isolated, "counter-moved")
			if out := w.outcome(); !strings.Contains(out, "refused") || !strings.Contains(out, c.outcome) {
				t.Errorf("outcome %q, want %q", out, c.outcome)
			}
		})
	}
	w.leave(k, good)
	w.want(w.boot(), verdict.Released, "validated")
}

func publicPEM(t *testing.T, k *ecdsa.PrivateKey) string {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(k.Public())
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
}

func newWorldKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// TestProvisioningToken provisions a release box without anybody at its console: the token names the
// chip and a counter value that never comes back.
func TestProvisioningToken(t *testing.T) {
	w := newWorld(t, "swtpm")
	w.policy.Development, w.policy.RecoveryKey = false, ""
	k := w.owner()
	w.types("status")
	r := w.boot()
	w.want(r, verdict.Isolated, "unprovisioned")
	_, name, _ := strings.Cut(w.screen.String(), "box       ")
	name, _, _ = strings.Cut(name, "\n")
	token := w.leave(k, request.Request{Kind: request.Provision, Box: name, Counter: w.counter()})

	w.console = nil
	r = w.boot()
	w.want(r, verdict.Released, "provisioned")
	if out := w.outcome(); !strings.Contains(out, "provision by owner key") || !strings.Contains(w.said.String(), "RECOVERY KEY") {
		t.Errorf("outcome %q", out)
	}
	w.want(w.boot(), verdict.Released, "clean")

	// A cleared TPM and a factory disk do not release themselves, and the token is spent.
	cleared(t, w)
	w.format()
	w.leaveText(token)
	w.want(w.boot(), verdict.Isolated, "unprovisioned")
	if out := w.outcome(); !strings.Contains(out, "refused") {
		t.Errorf("the token was used twice: %q", out)
	}
}
