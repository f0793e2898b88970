package pki

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"
)

var (
	// ErrToken is returned for a token that is wrong, used or expired; which of them is
	// not said, because the answer goes to somebody not yet known.
	ErrToken = errors.New("the token is wrong, used or expired; ask for a new one (on the box: ratchetctl token)")
	// ErrBusy is returned when guesses come too fast.
	ErrBusy = errors.New("too many tries; wait a few seconds and try again")
)

const (
	maxTokens   = 16
	maxTokenTTL = 24 * time.Hour
	// One guess a second against 100 bits is hopeless. A flood of guesses also keeps an honest
	// client out, but never the operator: tokens are not needed on the local socket.
	guessBurst  = 10
	guessRefill = time.Second
)

// Tokens hands out one-time enrolment tokens. The zero value works.
type Tokens struct {
	// Now is the clock; time.Now when nil.
	Now func() time.Time

	mu      sync.Mutex
	live    []token
	guesses int // failures not yet forgiven
	last    time.Time
}

type token struct {
	digest  [sha256.Size]byte
	role    Role
	expires time.Time
}

// Create makes a token for a role that is good once, for ttl (one hour when zero).
func (t *Tokens) Create(role Role, ttl time.Duration) (string, error) {
	if role < Viewer || role > Admin {
		return "", fmt.Errorf("create token: role %d does not exist", role)
	}
	if ttl == 0 {
		ttl = time.Hour
	}
	if ttl < 0 || ttl > maxTokenTTL {
		return "", fmt.Errorf("create token: %s is out of range; at most %s", ttl, maxTokenTTL)
	}
	secret := strings.ToLower(rand.Text()[:20])
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now()
	t.expire(now)
	if len(t.live) >= maxTokens {
		return "", fmt.Errorf("create token: %d tokens wait to be used; use one or wait until one expires", maxTokens)
	}
	t.live = append(t.live, token{digest: sha256.Sum256([]byte(secret)), role: role, expires: now.Add(ttl)})
	return secret, nil
}

// Redeem uses a token up and returns its role; ErrToken or ErrBusy otherwise.
func (t *Tokens) Redeem(secret string) (Role, error) {
	digest := sha256.Sum256([]byte(strings.ToLower(strings.TrimSpace(secret))))
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now()
	for t.guesses > 0 && now.Sub(t.last) >= guessRefill {
		t.guesses--
		t.last = t.last.Add(guessRefill)
	}
	if t.guesses >= guessBurst {
		return None, ErrBusy
	}
	t.expire(now)
	match := -1
	for i, k := range t.live { // all of them, so that the time taken tells nothing
		if subtle.ConstantTimeCompare(k.digest[:], digest[:]) == 1 {
			match = i
		}
	}
	if match < 0 {
		if t.guesses == 0 {
			t.last = now
		}
		t.guesses++
		return None, ErrToken
	}
	role := t.live[match].role
	t.live = append(t.live[:match], t.live[match+1:]...)
	return role, nil
}

func (t *Tokens) expire(now time.Time) {
	kept := t.live[:0]
	for _, k := range t.live {
		if now.Before(k.expires) {
			kept = append(kept, k)
		}
	}
	t.live = kept
}

func (t *Tokens) now() time.Time {
	if t.Now == nil {
		return time.Now()
	}
	return t.Now()
}
