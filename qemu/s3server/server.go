package s3server

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Options say where a server keeps its objects and listens. Only Dir is needed.
type Options struct {
	// Dir holds the objects. It is created if missing and never removed.
	Dir string
	// Address is host:port; empty means a free port on 127.0.0.1.
	Address string
	// Bucket exists when Start returns; empty means "ratchet".
	Bucket string
	// AccessKey and SecretKey are made up when both are empty. Give them to restart a server for the same clients.
	AccessKey, SecretKey string
	// Before is put before its command, as "nice".
	Before []string
}

// Server is a running S3 server. Its fields are what a client needs; they do not change.
type Server struct {
	// Endpoint is a URL, http://host:port; Address is the same without the scheme, as minio-go wants it.
	Endpoint, Address    string
	AccessKey, SecretKey string
	Region, Bucket       string

	cmd    *exec.Cmd
	stdin  io.Closer
	stderr bytes.Buffer // read only after done is closed
	done   chan struct{}
	waited error
	once   sync.Once
}

// startLimit bounds the time from exec to the first accepted connection; stopGrace the time to finish requests.
const (
	startLimit = 30 * time.Second
	stopGrace  = 5 * time.Second
)

// Start builds the server if need be, runs it and returns when it accepts requests. The end of ctx stops it.
func Start(ctx context.Context, o Options) (*Server, error) {
	if o.Dir == "" {
		return nil, errors.New("start the S3 server: Options.Dir is empty")
	}
	if o.Address == "" {
		o.Address = "127.0.0.1:0"
	}
	if o.Bucket == "" {
		o.Bucket = "ratchet"
	}
	if o.AccessKey == "" && o.SecretKey == "" {
		o.AccessKey, o.SecretKey = "test"+rand.Text()[:12], rand.Text()
	}
	bin, err := binary(ctx)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(o.Dir, 0o755); err != nil {
		return nil, err
	}
	s := &Server{AccessKey: o.AccessKey, SecretKey: o.SecretKey, Region: "us-east-1", Bucket: o.Bucket, done: make(chan struct{})}
	args := append(slices.Clone(o.Before), bin, "-dir", o.Dir, "-listen", o.Address, "-bucket", o.Bucket)
	s.cmd = exec.CommandContext(ctx, args[0], args[1:]...)
	s.cmd.Env = append(os.Environ(), "RATCHET_S3_ACCESS="+o.AccessKey, "RATCHET_S3_SECRET="+o.SecretKey)
	s.cmd.Cancel = func() error { return s.cmd.Process.Signal(syscall.SIGTERM) }
	s.cmd.WaitDelay = stopGrace
	s.cmd.Stderr = &s.stderr
	if s.stdin, err = s.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	ready := make(chan string, 1)
	s.cmd.Stdout = &announcement{ready: ready}
	if err := s.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the S3 server: %w", err)
	}
	go func() {
		s.waited = s.cmd.Wait()
		close(s.done)
	}()
	limit := time.NewTimer(startLimit)
	defer limit.Stop()
	select {
	case s.Address = <-ready:
		s.Endpoint = "http://" + s.Address
		return s, nil
	case <-s.done:
		return nil, fmt.Errorf("start the S3 server on %s: %w\n%s", o.Address, s.waited, tail(s.stderr.Bytes()))
	case <-limit.C:
		s.Stop()
		return nil, fmt.Errorf("start the S3 server on %s: not ready after %s\n%s", o.Address, startLimit, tail(s.stderr.Bytes()))
	}
}

// Stop ends the server, by force if it does not finish its requests within five seconds, and waits for it.
// Calling it again does nothing.
func (s *Server) Stop() {
	s.once.Do(func() {
		_ = s.cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-s.done:
		case <-time.After(stopGrace):
			s.Kill()
		}
		_ = s.stdin.Close()
	})
}

// Kill ends the server at once, requests in flight included, and waits for it.
func (s *Server) Kill() {
	_ = s.cmd.Process.Kill()
	<-s.done
}

// announcement is the server's standard output. It delivers the address of the first "listening" line
// and throws the rest away, so that a chatty server never blocks on a full pipe.
type announcement struct {
	ready chan<- string
	line  []byte
	told  bool
}

var _ io.Writer = (*announcement)(nil)

func (a *announcement) Write(p []byte) (int, error) {
	const longest = 4096 // of a line worth keeping
	n := len(p)
	for !a.told {
		line, rest, whole := bytes.Cut(p, []byte("\n"))
		if len(a.line)+len(line) <= longest {
			a.line = append(a.line, line...)
		}
		if !whole {
			break
		}
		if addr, ok := strings.CutPrefix(string(a.line), "listening "); ok {
			a.ready <- addr
			a.told = true
		}
		a.line, p = a.line[:0], rest
	}
	return n, nil
}
