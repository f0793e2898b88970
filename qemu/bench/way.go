package bench

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"time"
)

// yielding, before a command, leaves it only the processor time that nobody else wants: it stands for a machine elsewhere.
// What it starts does the same.
var yielding = []string{"chrt", "--idle", "0"}

// way is a delayProxy in a process of its own, so that what it does for others takes nothing from the clients that are
// measured here. It is for one goroutine.
type way struct {
	Address string // host:port to connect to

	cmd     *exec.Cmd
	orders  io.WriteCloser
	answers *bufio.Reader
	once    sync.Once
}

// startWay starts one in front of an address, with something before its command.
func startWay(ctx context.Context, to string, before ...string) (*way, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	args := append(slices.Clone(before), self, "delay", "--to", to)
	w := &way{cmd: exec.CommandContext(ctx, args[0], args[1:]...)}
	w.cmd.Stderr = os.Stderr
	out, err := w.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	w.answers = bufio.NewReader(out)
	if w.orders, err = w.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if err := w.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the delay proxy: %w", err)
	}
	if w.Address, err = w.answer(); err != nil {
		w.stop()
		return nil, err
	}
	return w, nil
}

func (w *way) answer() (string, error) {
	s, err := w.answers.ReadString('\n')
	if err != nil {
		return "", fmt.Errorf("the delay proxy says nothing: %w", err)
	}
	return strings.TrimSpace(s), nil
}

// set changes the round trip for everything that arrives from now on.
func (w *way) set(roundTrip time.Duration) error {
	_, err := w.order(roundTrip.String())
	return err
}

// sent is how many bytes went towards the provider.
func (w *way) sent() (int64, error) { return w.order(orderCount) }

func (w *way) order(o string) (n int64, err error) {
	if _, err := fmt.Fprintln(w.orders, o); err != nil {
		return 0, fmt.Errorf("tell the delay proxy: %w", err)
	}
	s, err := w.answer()
	if err != nil {
		return 0, err
	}
	if _, err := fmt.Sscan(s, &n); err != nil {
		return 0, fmt.Errorf("the delay proxy says %q: %w", s, err)
	}
	return n, nil
}

// stop ends the process with all its connections and waits for it.
func (w *way) stop() {
	w.once.Do(func() {
		_ = w.orders.Close()
		_ = w.cmd.Wait()
	})
}

const orderCount = "sent"

// Delay is the other process: a delayProxy that takes orders, one a line, until they end, and answers each with the
// number of bytes that went towards the provider. An order is a round trip, as "100ms", or "sent".
func Delay(to string, orders io.Reader, answers io.Writer) error {
	p, err := startDelay(to)
	if err != nil {
		return err
	}
	defer p.stop()
	if _, err := fmt.Fprintln(answers, p.Address); err != nil {
		return err
	}
	for lines := bufio.NewScanner(orders); ; {
		if !lines.Scan() {
			return lines.Err()
		}
		if o := lines.Text(); o != orderCount {
			trip, err := time.ParseDuration(o)
			if err != nil {
				return fmt.Errorf("order to the delay proxy: %w", errors.Join(err, errOrder))
			}
			p.set(trip)
		}
		if _, err := fmt.Fprintln(answers, p.sent.Load()); err != nil {
			return err
		}
	}
}

var errOrder = errors.New(`want a round trip or "sent"`)
