package bench

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os/exec"
	"strings"
	"time"
)

const (
	qemuIOPrompt = "qemu-io> "
	qemuIOLimit  = 5 * time.Minute // of a whole conversation
	qemuIOOutput = 64 << 10        // of one command
)

// qemuIO is a conversation with qemu-io, QEMU's block layer with a prompt: an NBD client that outlives the server.
type qemuIO struct {
	cancel context.CancelFunc
	cmd    *exec.Cmd
	in     io.WriteCloser
	out    *bufio.Reader
}

// startQemuIO connects. The client writes back: only its FLUSH asks for durability.
func startQemuIO(ctx context.Context, address, export string) (*qemuIO, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	q := &qemuIO{}
	ctx, q.cancel = context.WithTimeout(ctx, qemuIOLimit)
	q.cmd = exec.CommandContext(ctx, "qemu-io", "-t", "writeback", "--image-opts", fmt.Sprintf(
		"driver=raw,file.driver=nbd,file.server.type=inet,file.server.host=%s,file.server.port=%s,file.export=%s,file.reconnect-delay=20", host, port, export))
	if q.in, err = q.cmd.StdinPipe(); err != nil {
		q.cancel()
		return nil, err
	}
	r, w := io.Pipe()
	q.out = bufio.NewReader(r)
	q.cmd.Stdout, q.cmd.Stderr = w, w
	if err := q.cmd.Start(); err != nil {
		q.cancel()
		return nil, fmt.Errorf("start qemu-io: %w (sudo apt-get install qemu-utils)", err)
	}
	go func() { w.CloseWithError(errors.Join(q.cmd.Wait(), io.EOF)) }()
	if text, err := q.until(); err != nil {
		q.stop()
		return nil, fmt.Errorf("open nbd://%s/%s with qemu-io: %w: %s", address, export, err, text)
	}
	return q, nil
}

// do runs one command and returns what it printed; qemu-io tells failures only by its words.
func (q *qemuIO) do(format string, args ...any) (string, error) {
	if _, err := fmt.Fprintf(q.in, format+"\n", args...); err != nil {
		return "", fmt.Errorf("qemu-io: %w", err)
	}
	text, err := q.until()
	if err != nil {
		return text, fmt.Errorf("qemu-io "+format+": %w: %s", append(args, err, text)...)
	}
	return text, nil
}

// until reads up to the next prompt.
func (q *qemuIO) until() (string, error) {
	var b strings.Builder
	for b.Len() < qemuIOOutput {
		c, err := q.out.ReadByte()
		if err != nil {
			return strings.TrimSpace(b.String()), err
		}
		b.WriteByte(c)
		if text, ok := strings.CutSuffix(b.String(), qemuIOPrompt); ok {
			return strings.TrimSpace(text), nil
		}
	}
	return "", errors.New("qemu-io printed too much")
}

// done says whether a read or write of n bytes succeeded as a whole: "read 512/512 bytes at …", with nothing before
// it, where a pattern that does not match would stand.
func done(output, verb string, n int) bool {
	return strings.HasPrefix(output, fmt.Sprintf("%s %d/%d bytes", verb, n, n))
}

// stop ends the client.
func (q *qemuIO) stop() {
	q.cancel()
	_, _ = io.Copy(io.Discard, q.out) // until Wait has collected it
}
