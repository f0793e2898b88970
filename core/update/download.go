package update

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

const (
	// tries is how often a download goes on after it was cut off without getting further than ever; each byte that does
	// gives all of them back.
	tries = 5
	// stall is how long a server may say nothing.
	stall = 30 * time.Second
)

// source says where the staged bundle is from, so that a download can go on after a restart of the box.
type source struct {
	URL string `json:"url"`
	// Validator is the server's strong ETag, or Last-Modified; without one nothing is resumed.
	Validator string `json:"validator"`
}

func (m *Manager) sourcePath() string { return filepath.Join(m.o.Dir, "source.json") }

// download fetches a bundle to the staging place. What is there of the same URL is kept: the server is asked for the
// rest, and for all of it when it has another version now. The caller holds m.staging.
func (m *Manager) download(ctx context.Context, address string, progress Progress) error {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return fmt.Errorf("%w: %q is not an http or https URL", ErrSource, address)
	}
	capacity, err := m.capacity()
	if err != nil {
		return err
	}
	d := &download{m: m, url: u.String(), limit: maxBundle(capacity), progress: progress}
	d.client = &http.Client{Transport: &http.Transport{
		Proxy: m.o.Proxy, ResponseHeaderTimeout: stall, TLSHandshakeTimeout: stall, DisableKeepAlives: true,
		DisableCompression: true, // offsets are of the file
	}}
	wait := m.pause
	for left := tries; ; {
		more, err := d.part(ctx)
		if err == nil {
			return nil
		}
		if more {
			left, wait = tries, m.pause
		}
		if left--; left == 0 || !errors.Is(err, errAgain) || ctx.Err() != nil {
			return err
		}
		m.o.Log.Warn("update download was cut off", "url", u.Redacted(), "err", err)
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", ErrSource, ctx.Err())
		case <-time.After(wait):
		}
		wait = min(2*wait, 30*time.Second)
	}
}

// errAgain marks what trying again may help against.
var errAgain = errors.New("cut off")

type download struct {
	m        *Manager
	client   *http.Client
	url      string
	limit    int64
	longest  int64 // how far it has got; a server without ranges begins anew each time
	progress Progress
}

// part makes one request; more says that it got further than those before.
func (d *download) part(ctx context.Context) (more bool, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	have, validator := d.have()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, d.url, nil)
	if err != nil {
		return false, fmt.Errorf("%w: %w", ErrSource, err)
	}
	if have > 0 {
		req.Header.Set("Range", "bytes="+strconv.FormatInt(have, 10)+"-")
		req.Header.Set("If-Range", validator)
	}
	res, err := d.client.Do(req)
	if err != nil {
		return false, fmt.Errorf("%w: %w: %w", ErrSource, errAgain, err)
	}
	defer res.Body.Close()
	switch {
	case res.StatusCode == http.StatusPartialContent && resumes(res, have):
	case res.StatusCode == http.StatusOK:
		have = 0
	case res.StatusCode == http.StatusRequestedRangeNotSatisfiable && have > 0:
		if res.Header.Get("Content-Range") == fmt.Sprintf("bytes */%d", have) {
			return false, nil // all of it is here
		}
		d.m.forgetStaged()
		return false, fmt.Errorf("%w: %w: the server has a shorter file now", ErrSource, errAgain)
	case res.StatusCode >= 500:
		return false, fmt.Errorf("%w: %w: the server says %s", ErrSource, errAgain, res.Status)
	default:
		return false, fmt.Errorf("%w: the server says %s", ErrSource, res.Status)
	}
	total := int64(0)
	if res.ContentLength >= 0 {
		if total = have + res.ContentLength; total > d.limit {
			return false, fmt.Errorf("%w: %d bytes, its image cannot fit a slot", ErrSource, total)
		}
	}
	if have == 0 {
		if err := d.start(res); err != nil {
			return false, err
		}
	}
	n, err := d.body(ctx, res.Body, have, total, func() { cancel(fmt.Errorf("nothing came for %s", d.m.stall)) })
	more = have+n > d.longest
	d.longest = max(d.longest, have+n)
	return more, err
}

// resumes checks that the answer starts where the file ends.
func resumes(res *http.Response, have int64) bool {
	return strings.HasPrefix(res.Header.Get("Content-Range"), "bytes "+strconv.FormatInt(have, 10)+"-")
}

// have is how much of this URL's bundle is there, and the version it is of.
func (d *download) have() (int64, string) {
	b, err := os.ReadFile(d.m.sourcePath())
	var s source
	if err != nil || json.Unmarshal(b, &s) != nil || s.URL != d.url || s.Validator == "" {
		return 0, ""
	}
	st, err := os.Stat(d.m.stagedPath())
	if err != nil {
		return 0, ""
	}
	return st.Size(), s.Validator
}

// start begins the file and notes what it is of.
func (d *download) start(res *http.Response) error {
	f, err := d.m.openStaged(true)
	if err != nil {
		return err
	}
	s := source{URL: d.url, Validator: res.Header.Get("ETag")}
	if s.Validator == "" || strings.HasPrefix(s.Validator, "W/") {
		s.Validator = res.Header.Get("Last-Modified")
	}
	b, err := json.Marshal(s)
	if err = errors.Join(err, f.Close()); err != nil {
		return storage(err)
	}
	if err := os.WriteFile(d.m.sourcePath(), b, 0o600); err != nil {
		return storage(err)
	}
	return nil
}

// body appends what comes. A server that stalls is left by cancel.
func (d *download) body(ctx context.Context, r io.Reader, have, total int64, cancel func()) (n int64, err error) {
	f, err := d.m.openStaged(false)
	if err != nil {
		return 0, err
	}
	// Durable, so that a restart finds no hole where the size says that there is something.
	defer func() { err = errors.Join(err, f.Sync(), f.Close()) }()
	if _, err := f.Seek(have, io.SeekStart); err != nil {
		return 0, storage(err)
	}
	peeked := have >= peekAfter
	timer := time.AfterFunc(d.m.stall, cancel)
	defer timer.Stop()
	for buf := make([]byte, 256<<10); ; {
		got, readErr := r.Read(buf)
		timer.Reset(d.m.stall)
		if have+n+int64(got) > d.limit {
			d.m.forgetStaged()
			return n, fmt.Errorf("%w: more than %d bytes, its image cannot fit a slot", ErrSource, d.limit)
		}
		if _, err := f.Write(buf[:got]); err != nil {
			d.m.forgetStaged()
			return n, storage(err)
		}
		n += int64(got)
		d.progress("download", have+n, total)
		if !peeked && have+n >= peekAfter {
			peeked = true
			if err := d.m.peek(f); err != nil {
				d.m.forgetStaged()
				return n, err
			}
		}
		switch {
		case errors.Is(readErr, io.EOF) && (total == 0 || have+n == total):
			return n, nil
		case readErr != nil:
			if cause := context.Cause(ctx); cause != nil {
				readErr = cause
			}
			return n, fmt.Errorf("%w: %w after %d bytes: %w", ErrSource, errAgain, have+n, readErr)
		}
	}
}
