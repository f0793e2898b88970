// Package s3 keeps objects in a bucket of a service that speaks S3.
//
// It uses path-style addresses, single-request puts and If-None-Match and If-Match, which not
// every service honours: call Probe before trusting one. It never retries, but Load
// reads again what may have been replaced meanwhile; a request ends when nothing of it has moved for Options.Timeout. An
// error that is not in the service's own words does not count as its: a proxy's 404 is ErrUnavailable, not ErrNotFound.
package s3

import (
	"bytes"
	"context"
	"crypto/md5" //nolint:gosec // see isMD5
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/minio/minio-go/v7/pkg/s3utils"

	"github.com/ratchetos/ratchet/plugins/internal/objstore"
)

// Options name a bucket. Endpoint and Bucket are needed, the rest may be left zero.
type Options struct {
	Endpoint  string // URL: "https://host[:port]" or "http://…"
	Region    string // "" means us-east-1, which services without regions accept
	Bucket    string // must exist
	Prefix    string // put before every key, with a slash between
	AccessKey string // "" for anonymous access
	SecretKey string
	Timeout   time.Duration // of a call of which nothing moves, 0 means 30 s
	MaxConns  int           // connections to the service, 0 means 64
	// Transport replaces the default one; MaxConns is then not used.
	Transport http.RoundTripper
}

// Store is an object store in a bucket.
type Store struct {
	api     minio.Core
	bucket  string
	prefix  string // "" or ends in a slash
	timeout time.Duration
	idle    func()
}

var _ objstore.Store = (*Store)(nil)

// Open returns the store. It does not touch the network.
func Open(o Options) (*Store, error) {
	u, err := parseEndpoint(o.Endpoint)
	if err != nil {
		return nil, fmt.Errorf("open s3 store: endpoint %w", err)
	}
	if err := CheckBucket(o.Bucket); err != nil {
		return nil, fmt.Errorf("open s3 store: bucket %w", err)
	}
	prefix := strings.Trim(o.Prefix, "/")
	if prefix != "" {
		if err := objstore.CheckKey(prefix); err != nil {
			return nil, fmt.Errorf("open s3 store: prefix: %w", err)
		}
		prefix += "/"
	}
	rt, idle := o.Transport, func() {}
	if rt == nil {
		t := transport(orDefault(o.MaxConns, 64))
		rt, idle = t, t.CloseIdleConnections
	}
	creds := credentials.NewStaticV4(o.AccessKey, o.SecretKey, "")
	core, err := minio.NewCore(u.Host, &minio.Options{
		Creds: creds, Secure: u.Scheme == "https", Region: orDefault(o.Region, "us-east-1"),
		BucketLookup: minio.BucketLookupPath, Transport: answers{watched{rt}},
		MaxRetries: 1, // attempts, not repetitions
	})
	if err != nil {
		return nil, fmt.Errorf("open s3 store: %w", err)
	}
	return &Store{api: *core, bucket: o.Bucket, prefix: prefix, timeout: orDefault(o.Timeout, 30*time.Second), idle: idle}, nil
}

// CheckEndpoint says what keeps Open from taking an endpoint.
func CheckEndpoint(endpoint string) error {
	u, err := parseEndpoint(endpoint)
	if err == nil {
		_, err = minio.New(u.Host, &minio.Options{Secure: u.Scheme == "https"})
	}
	return err
}

func parseEndpoint(endpoint string) (*url.URL, error) {
	u, err := url.Parse(endpoint)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || strings.Trim(u.Path, "/") != "" || u.User != nil {
		return nil, fmt.Errorf("%q is not a URL like https://host:port", endpoint)
	}
	return u, nil
}

// CheckBucket says what keeps Open from taking a bucket's name.
func CheckBucket(name string) error {
	if err := s3utils.CheckValidBucketName(name); err != nil {
		return fmt.Errorf("%q: %w; a path in a bucket goes into prefix", name, err)
	}
	return nil
}

// transport bounds what one store can hold open.
func transport(conns int) *http.Transport {
	return &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         (&net.Dialer{Timeout: 5 * time.Second, KeepAlive: 15 * time.Second}).DialContext,
		MaxConnsPerHost:     conns,
		MaxIdleConnsPerHost: conns,
		IdleConnTimeout:     60 * time.Second,
		TLSHandshakeTimeout: 10 * time.Second,
		DisableCompression:  true, // objects are compressed already, and ranges must stay ranges
	}
}

func orDefault[T comparable](v, d T) T {
	var zero T
	if v == zero {
		return d
	}
	return v
}

// Close implements objstore.Store.
func (s *Store) Close() error { s.idle(); return nil }

// Probe implements objstore.Store.
func (s *Store) Probe(ctx context.Context) error { return objstore.ProbeConditional(ctx, s) }

// refusal is an error found before the service was asked. Retrying does not help.
type refusal struct{ error }

// call checks the key of a call that sends n bytes, and bounds its silence.
func (s *Store) call(ctx context.Context, key string, n int64) (context.Context, func(*error), error) {
	if err := objstore.CheckKey(key); err != nil {
		return nil, nil, refusal{err}
	}
	ctx, end := s.watch(ctx, n)
	return ctx, end, nil
}

func tooBig(n int64) error {
	return refusal{fmt.Errorf("%d bytes, an object has at most %d", n, objstore.MaxObject)}
}

// Get implements objstore.Store.
func (s *Store) Get(ctx context.Context, key string, off, n int64) ([]byte, error) {
	if n == 0 {
		// HTTP has no empty range; the object must still be there.
		_, err := s.Head(ctx, key)
		return nil, err
	}
	var opts minio.GetObjectOptions
	var err error
	switch {
	case off < 0:
		return nil, fmt.Errorf("get %s: offset %d", key, off)
	case n > 0:
		err = opts.SetRange(off, off+n-1)
	case off > 0:
		err = opts.SetRange(off, 0) // minio's way to say "to the end"
	}
	if err != nil {
		return nil, fmt.Errorf("get %s: %w", key, err)
	}
	data, _, err := s.get(ctx, key, opts)
	if code(err) == http.StatusRequestedRangeNotSatisfiable {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("get %s: %w", key, classify(err))
	}
	return data, nil
}

// Load implements objstore.Store.
func (s *Store) Load(ctx context.Context, key string) ([]byte, string, error) {
	var last []byte
	var lastETag string
	for range loads {
		data, etag, err := s.get(ctx, key, minio.GetObjectOptions{})
		if err != nil {
			return nil, "", fmt.Errorf("load %s: %w", key, classify(err))
		}
		if isMD5(etag, data) || (etag == lastETag && bytes.Equal(data, last)) {
			return data, etag, nil
		}
		last, lastETag = data, etag
	}
	return nil, "", fmt.Errorf("load %s: %w: it is replaced faster than it can be read, or the service answers with other bytes each time", key, objstore.ErrUnavailable)
}

// loads is how often Load reads an object that is replaced meanwhile.
const loads = 8

// isMD5 says that an etag and bytes belong together for certain. There are services that read the one after the other, and what
// was replaced between them came with the new etag (versitygw on a file system, in 4 of 200 runs of this package's suite under
// load): with it, a writer would replace what it has never seen. Etags that are no MD5, of encrypted
// objects say, prove nothing; two equal answers do.
func isMD5(etag string, data []byte) bool {
	sum := md5.Sum(data) //nolint:gosec // what S3 makes etags of, and no more than a checksum here
	return etag == hex.EncodeToString(sum[:])
}

// get fetches what opts say.
func (s *Store) get(ctx context.Context, key string, opts minio.GetObjectOptions) (data []byte, etag string, err error) {
	ctx, end, err := s.call(ctx, key, 0)
	if err != nil {
		return nil, "", err
	}
	defer end(&err)
	body, info, _, err := s.api.GetObject(ctx, s.bucket, s.prefix+key, opts)
	if err != nil {
		return nil, "", err
	}
	defer body.Close()
	if info.ETag == "" {
		return nil, "", errNoETag
	}
	if info.Size > objstore.MaxObject {
		return nil, "", tooBig(info.Size)
	}
	if info.Size < 0 { // in chunks, by a proxy on the way
		data, err = io.ReadAll(io.LimitReader(body, objstore.MaxObject+1))
		if len(data) > objstore.MaxObject {
			return nil, "", tooBig(int64(len(data)))
		}
	} else {
		data = make([]byte, info.Size)
		_, err = io.ReadFull(body, data)
	}
	if err != nil { // a body that ends early is an error of the network
		return nil, "", fmt.Errorf("%w: %w", objstore.ErrUnavailable, err)
	}
	return data, info.ETag, nil
}

// errNoETag is about the page of something in front of the service.
var errNoETag = fmt.Errorf("%w: the answer has no ETag", objstore.ErrUnavailable)

// Head implements objstore.Store.
func (s *Store) Head(ctx context.Context, key string) (objstore.Info, error) {
	ctx, end, err := s.call(ctx, key, 0)
	if err != nil {
		return objstore.Info{}, fmt.Errorf("head: %w", err)
	}
	info, err := s.api.StatObject(ctx, s.bucket, s.prefix+key, minio.StatObjectOptions{})
	end(&err)
	if err != nil {
		return objstore.Info{}, fmt.Errorf("head %s: %w", key, classify(err))
	}
	return objstore.Info{Key: key, Size: info.Size, ETag: info.ETag, Modified: info.LastModified}, nil
}

// PutIfAbsent implements objstore.Store.
func (s *Store) PutIfAbsent(ctx context.Context, key string, data []byte) (string, error) {
	var opts minio.PutObjectOptions
	opts.SetMatchETagExcept("*")
	etag, err := s.put(ctx, key, data, opts)
	if code(err) == http.StatusPreconditionFailed {
		return "", fmt.Errorf("put %s: %w", key, objstore.ErrExists)
	}
	if err != nil {
		return "", fmt.Errorf("put %s: %w", key, classify(err))
	}
	return etag, nil
}

// PutIfMatch implements objstore.Store.
func (s *Store) PutIfMatch(ctx context.Context, key string, data []byte, etag string) (string, error) {
	if etag == "" || etag == "*" {
		return "", fmt.Errorf("put %s: etag %q matches anything", key, etag)
	}
	var opts minio.PutObjectOptions
	opts.SetMatchETag(etag)
	next, err := s.put(ctx, key, data, opts)
	// Services answer 404 when there is no object to match, but also when there is no bucket.
	if c := minio.ToErrorResponse(err).Code; code(err) == http.StatusPreconditionFailed || c == minio.NoSuchKey {
		return "", &objstore.PreconditionError{Key: key}
	}
	if err != nil {
		return "", fmt.Errorf("put %s: %w", key, classify(err))
	}
	return next, nil
}

func (s *Store) put(ctx context.Context, key string, data []byte, opts minio.PutObjectOptions) (etag string, err error) {
	if len(data) > objstore.MaxObject {
		return "", tooBig(int64(len(data)))
	}
	ctx, end, err := s.call(ctx, key, int64(len(data)))
	if err != nil {
		return "", err
	}
	defer end(&err)
	// The signed hash lets the service refuse what was damaged on the way. Without the option the
	// client would sign the body piece by piece instead when the service is not behind TLS, and send
	// an empty one in two layers of chunks, of which services have left the outer one's end on the connection.
	opts.DisableContentSha256 = true
	sum := sha256.Sum256(data)
	info, err := s.api.PutObject(ctx, s.bucket, s.prefix+key, bytes.NewReader(data), int64(len(data)), "", hex.EncodeToString(sum[:]), opts)
	if err != nil {
		return "", err
	}
	if info.ETag == "" {
		return "", errNoETag
	}
	return info.ETag, nil
}

// List implements objstore.Store. Objects under the prefix whose names are no valid keys are
// not ours and are passed over.
func (s *Store) List(ctx context.Context, prefix, after string, fn func(objstore.Info) error) (err error) {
	if err := objstore.CheckPrefix(prefix); err != nil {
		return fmt.Errorf("list: %w", err)
	}
	opts := minio.ListObjectsOptions{Prefix: s.prefix + prefix, Recursive: true}
	if after != "" {
		opts.StartAfter = s.prefix + after
	}
	ctx, end := s.watch(ctx, 0)
	defer end(&err) // and with it the paging when fn fails
	for o := range s.api.ListObjectsIter(ctx, s.bucket, opts) {
		if o.Err != nil {
			return fmt.Errorf("list %s: %w", prefix, classify(o.Err))
		}
		key := strings.TrimPrefix(o.Key, s.prefix)
		if objstore.CheckKey(key) != nil {
			continue
		}
		if err := fn(objstore.Info{Key: key, Size: o.Size, Modified: o.LastModified}); err != nil {
			return err
		}
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("list %s: %w", prefix, err)
	}
	return nil
}

// Delete implements objstore.Store.
func (s *Store) Delete(ctx context.Context, key string) error {
	ctx, end, err := s.call(ctx, key, 0)
	if err != nil {
		return fmt.Errorf("delete: %w", err)
	}
	err = s.api.RemoveObject(ctx, s.bucket, s.prefix+key, minio.RemoveObjectOptions{})
	end(&err)
	if err == nil || minio.ToErrorResponse(err).Code == minio.NoSuchKey {
		return nil
	}
	return fmt.Errorf("delete %s: %w", key, classify(err))
}

// code is the HTTP status of an error that the service sent, 0 of any other.
func code(err error) int { return minio.ToErrorResponse(err).StatusCode }
