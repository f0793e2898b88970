package capacity

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/ratchetos/ratchet/plugins/dataplane/capacity/split"
)

// maxWord bounds what an application says at once.
const maxWord = 512

// application is what the application itself says, over a unix datagram socket.
type application struct {
	path string
	ttl  time.Duration
	conn *net.UnixConn
	done sync.WaitGroup

	mu   sync.Mutex
	last split.Measurement
	at   time.Time
}

var _ source = (*application)(nil)

// listenApplication makes the socket. wake is called after each word; it must not block.
func listenApplication(c ApplicationConfig, wake func()) (*application, error) {
	mode, err := parseMode(c.Mode)
	if err != nil {
		return nil, fmt.Errorf("application socket: %w", err)
	}
	a := &application{path: c.Socket, ttl: time.Duration(c.TTL)}
	if a.ttl == 0 {
		a.ttl = defaultTTL
	}
	// What an agent that was killed left behind. Nothing else is removed.
	if st, err := os.Lstat(c.Socket); err == nil && st.Mode()&os.ModeSocket != 0 {
		if err := os.Remove(c.Socket); err != nil {
			return nil, fmt.Errorf("application socket: %w", err)
		}
	}
	if a.conn, err = net.ListenUnixgram("unixgram", &net.UnixAddr{Name: c.Socket, Net: "unixgram"}); err != nil {
		return nil, fmt.Errorf("application socket: %w", err)
	}
	if err := os.Chmod(c.Socket, os.FileMode(mode)); err != nil {
		a.conn.Close()
		return nil, fmt.Errorf("application socket: %w", err)
	}
	a.done.Go(func() { a.listen(wake) })
	return a, nil
}

func (a *application) close() error {
	err := a.conn.Close()
	a.done.Wait()
	os.Remove(a.path)
	return err
}

func (a *application) listen(wake func()) {
	b := make([]byte, maxWord+1)
	for {
		n, _, err := a.conn.ReadFromUnix(b)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil || n > maxWord {
			continue
		}
		m, err := parseWord(string(b[:n]))
		if err != nil {
			continue // the last good word holds until its TTL
		}
		a.mu.Lock()
		a.last, a.at = m, time.Now()
		a.mu.Unlock()
		wake()
	}
}

func (a *application) measure(time.Duration) (split.Measurement, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.at.IsZero() {
		return split.Measurement{}, fmt.Errorf("the application has not written to %s yet", a.path)
	}
	if age := time.Since(a.at); age > a.ttl {
		// The count stays: it is only the limit that nobody vouches for.
		m := a.last
		m.Limit = 0
		return m, fmt.Errorf("the application has written nothing to %s for %v", a.path, age.Round(time.Millisecond))
	}
	return a.last, nil
}

// parseWord reads LIMIT=n and ACCEPTED=n, one a line, in any order; other names are left to later versions.
func parseWord(s string) (m split.Measurement, err error) {
	limited := false
	for line := range strings.Lines(s) {
		key, value, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
		if !ok {
			return m, fmt.Errorf("line %q is not NAME=VALUE", line)
		}
		switch key {
		case "LIMIT":
			n, err := strconv.ParseUint(value, 10, 32)
			if err != nil {
				return m, fmt.Errorf("limit: %w", err)
			}
			m.Limit, limited = uint32(n), true
		case "ACCEPTED":
			if m.Accepted, err = strconv.ParseUint(value, 10, 64); err != nil {
				return m, fmt.Errorf("accepted: %w", err)
			}
			m.Counted = true
		}
	}
	if !limited {
		return m, errors.New("no LIMIT")
	}
	return m, nil
}
