// Command s3 is the S3 server that the tests talk to: versitygw with its POSIX backend on one directory.
//
// It is a module of its own, so that the eighty modules versitygw needs stay out of the product's go.sum.
// Package qemu/s3server builds and runs it; nothing else should.
//
// Usage:
//
//	s3 -dir DIR [-listen 127.0.0.1:0] [-bucket NAME]
//
// The keys come from the environment: RATCHET_S3_ACCESS and RATCHET_S3_SECRET. Once it serves, it prints one line,
// "listening HOST:PORT", on standard output. It ends on SIGTERM, SIGINT, and when standard input is closed:
// a parent that dies takes its server along.
//
// The backend calls no fsync. That is right for a test double and wrong for a store of record.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"

	"github.com/versity/versitygw/backend"
	"github.com/versity/versitygw/backend/meta"
	"github.com/versity/versitygw/backend/posix"
	"github.com/versity/versitygw/embedgw"
	"github.com/versity/versitygw/s3api"
)

func main() {
	dir := flag.String("dir", "", "directory that holds the buckets")
	listen := flag.String("listen", "127.0.0.1:0", "address to listen on; port 0 picks a free one")
	bucket := flag.String("bucket", "", "bucket to create if it is missing")
	flag.Parse()
	if err := run(*dir, *listen, *bucket); err != nil {
		fmt.Fprintln(os.Stderr, "s3:", err)
		os.Exit(1)
	}
}

func run(dir, listen, bucket string) error {
	if dir == "" {
		return errors.New("-dir is missing")
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		stop()
	}()
	be, err := open(dir, bucket)
	if err != nil {
		return err
	}
	// The gateway binds its own listener and does not tell where; the socket is looked up among our own.
	announce := func() {
		addr, err := listeningAddress()
		if err != nil {
			fmt.Fprintln(os.Stderr, "s3:", err)
			stop()
			return
		}
		fmt.Println("listening", addr)
	}
	err = embedgw.RunVersityGW(ctx, be, &embedgw.Config{
		RootUserAccess:    os.Getenv("RATCHET_S3_ACCESS"),
		RootUserSecret:    os.Getenv("RATCHET_S3_SECRET"),
		Ports:             []string{listen},
		MaxConnections:    1024,
		MaxRequests:       512,
		MultipartMaxParts: 10000,
		KeepAlive:         true,
		Quiet:             true,
		S3Options:         []s3api.Option{s3api.WithOnListen(announce), s3api.WithQuiet()},
	})
	if err != nil && ctx.Err() == nil {
		return fmt.Errorf("serve on %s: %w", listen, err)
	}
	return nil
}

// open prepares the directories and the backend. Metadata goes into extended attributes, set before an
// object becomes visible; a file system without them gets plain files beside the objects.
func open(dir, bucket string) (backend.Backend, error) {
	root := filepath.Join(dir, "objects")
	// A bucket made before the start needs no request to make it; versitygw takes every folder for one.
	if err := os.MkdirAll(filepath.Join(root, bucket), 0o755); err != nil {
		return nil, err
	}
	opts := posix.PosixOpts{Concurrency: 256}
	attrs := meta.XattrMeta{}
	if attrs.Test(root) == nil {
		return posix.New(root, attrs, opts)
	}
	opts.SideCarDir = filepath.Join(dir, "metadata")
	if err := os.MkdirAll(opts.SideCarDir, 0o755); err != nil {
		return nil, err
	}
	sidecar, err := meta.NewSideCar(opts.SideCarDir)
	if err != nil {
		return nil, err
	}
	return posix.New(root, sidecar, opts)
}

// listeningAddress finds the one listening TCP socket of this process.
func listeningAddress() (string, error) {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return "", err
	}
	for _, e := range entries {
		fd, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if on, err := syscall.GetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_ACCEPTCONN); err != nil || on == 0 {
			continue
		}
		sa, err := syscall.Getsockname(fd)
		if err != nil {
			return "", fmt.Errorf("read the listening address: %w", err)
		}
		switch sa := sa.(type) {
		case *syscall.SockaddrInet4:
			return fmt.Sprintf("%d.%d.%d.%d:%d", sa.Addr[0], sa.Addr[1], sa.Addr[2], sa.Addr[3], sa.Port), nil
		case *syscall.SockaddrInet6:
			return fmt.Sprintf("[::1]:%d", sa.Port), nil
		}
	}
	return "", errors.New("found no listening socket")
}
