package control

import (
	"context"
	"encoding/json"
	"fmt"
	"time"
)

// Call waits for a session and makes one call in it, until ctx ends. request and reply are JSON; a []byte and a
// *[]byte pass as they are, a nil reply is not looked at. A call whose connection breaks is not repeated: its
// error wraps ErrNotJoined, and whether it was carried out is not known.
func (c *Client) Call(ctx context.Context, method string, request, reply any) error {
	body, ok := request.([]byte)
	if !ok {
		var err error
		if body, err = json.Marshal(request); err != nil {
			return fmt.Errorf("call %s: encode request: %w", method, err)
		}
	}
	if len(method) > maxMethod || len(body) > MaxMessage {
		return fmt.Errorf("call %s: a request of %d bytes is too long", method, len(body))
	}
	answer, err := c.call(ctx, method, body)
	if err != nil {
		return err
	}
	switch out := reply.(type) {
	case nil:
	case *[]byte:
		*out = answer
	default:
		if err := json.Unmarshal(answer, out); err != nil {
			return fmt.Errorf("call %s: decode reply: %w", method, err)
		}
	}
	return nil
}

func (c *Client) call(ctx context.Context, method string, body []byte) ([]byte, error) {
	j, err := c.session(ctx, method)
	if err != nil {
		return nil, err
	}
	id, answer, err := j.begin()
	if err != nil {
		return nil, fmt.Errorf("call %s: %w", method, err)
	}
	defer j.forget(id)
	if err := j.writeFrame(frame{id: id, kind: frameCall, method: method, body: body}); err != nil {
		j.conn.Close()
		return nil, fmt.Errorf("call %s: %w: %w", method, ErrNotJoined, err)
	}
	select {
	case f, ok := <-answer:
		switch {
		case !ok:
			return nil, fmt.Errorf("call %s: %w: the connection ended before the reply", method, ErrNotJoined)
		case f.kind == frameError:
			return nil, &CallError{Method: method, Message: string(f.body)}
		}
		return f.body, nil
	case <-ctx.Done():
		_ = j.writeFrame(frame{id: id, kind: frameCancel}) // the box works on for nobody otherwise
		return nil, fmt.Errorf("call %s: %w", method, ctx.Err())
	}
}

// session waits for one.
func (c *Client) session(ctx context.Context, method string) (*joined, error) {
	for {
		j, changed := c.current()
		if j != nil {
			return j, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, fmt.Errorf("call %s: %w: %w", method, ErrNotJoined, ctx.Err())
		}
	}
}

// begin gives a call its id and the channel on which its one answer comes; it is closed when the connection ends.
func (j *joined) begin() (uint32, chan frame, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	switch {
	case j.pending == nil:
		return 0, nil, ErrNotJoined
	case len(j.pending) >= maxInFlight:
		return 0, nil, fmt.Errorf("%d calls are waiting already", maxInFlight)
	}
	j.nextID++
	answer := make(chan frame, 1)
	j.pending[j.nextID] = answer
	return j.nextID, answer, nil
}

func (j *joined) forget(id uint32) {
	j.mu.Lock()
	defer j.mu.Unlock()
	delete(j.pending, id)
}

// answered hands an answer to its call, if that still waits.
func (j *joined) answered(f frame) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if answer := j.pending[f.id]; answer != nil && (f.kind == frameReply || f.kind == frameError) {
		delete(j.pending, f.id)
		answer <- f
	}
}

func (j *joined) end() {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, answer := range j.pending {
		close(answer)
	}
	j.pending = nil
}

func (j *joined) writeFrame(f frame) error {
	j.write.Lock()
	defer j.write.Unlock()
	j.conn.SetWriteDeadline(time.Now().Add(writeTimeout))
	_, err := j.conn.Write(f.append(nil))
	return err
}
