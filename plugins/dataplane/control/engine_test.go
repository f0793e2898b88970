package control

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"net/netip"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// A window accepts each number once, whatever the order, as long as it is not too old.
func TestWindow(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var w window
		seen := map[uint64]bool{}
		var newest uint64
		for _, n := range rapid.SliceOfN(rapid.Uint64Range(0, 4*windowSize), 1, 400).Draw(t, "numbers") {
			want := n != 0 && !seen[n] && n+windowSize > newest
			if got := w.fresh(n); got != want {
				t.Fatalf("number %d after %d: fresh is %v", n, newest, got)
			}
			if want {
				w.accept(n)
				seen[n], newest = true, max(newest, n)
			}
		}
	})
}

func TestHintsAreBounded(t *testing.T) {
	var b hintBudget
	given := 0
	for i := range 100_000 {
		if b.take(int64(i) * int64(time.Millisecond) / 100) { // one second
			given++
		}
	}
	if given != hintsPerSecond {
		t.Errorf("%d hints in a second, at most %d", given, hintsPerSecond)
	}
}

func FuzzFrame(f *testing.F) {
	f.Add(frame{id: 1, kind: frameCall, method: "groups.pull", body: []byte("{}")}.append(nil))
	f.Add(frame{id: 1, kind: frameReply, body: []byte("x")}.append(nil))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 3})
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := readFrame(bytes.NewReader(b))
		if err != nil {
			return
		}
		if again := got.append(nil); !bytes.Equal(again, b[:len(again)]) {
			t.Errorf("frame %x is read as %+v", b, got)
		}
	})
}

// Whatever comes without the key reaches no handler, and is answered by nothing longer than itself.
func FuzzDatagram(f *testing.F) {
	f.Add(header{kind: KindBeat, key: 7, seq: 1}.append(nil))
	f.Add(append(header{kind: KindBeat, key: 8, seq: 1}.append(nil), make([]byte, 40)...))
	s := &Server{started: time.Now(), sessions: map[uint64]*session{}}
	s.datagrams[KindBeat] = func(string, uint64, []byte) []byte { panic("a forged datagram was handed on") }
	keys := testSealer(f, 7)
	s.sessions[7] = &session{host: "web-1", keys: keys, stats: &stats{}}
	from := netip.MustParseAddrPort("192.0.2.1:7400")
	f.Fuzz(func(t *testing.T, b []byte) {
		n := len(b)
		if answer := s.datagram(b, nil, from); len(answer) > n {
			t.Errorf("%d bytes are answered with %d", n, len(answer))
		}
	})
}

// testSealer has a key that nobody knows.
func testSealer(t testing.TB, id uint64) *sealer {
	key := make([]byte, 32)
	_, _ = rand.Read(key) // never fails
	block, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	return &sealer{id: id, send: gcm, recv: gcm}
}
