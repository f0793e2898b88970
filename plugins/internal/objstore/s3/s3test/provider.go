// Package s3test is an S3 service in memory that can be made to behave as one or another provider does where
// they differ: in conditional writes, in what they answer to them, in the etags they give. It checks no
// signatures. For everything else there is a real server, package qemu/s3server.
package s3test

import (
	"crypto/md5"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Provider says how a service differs.
type Provider struct {
	// IgnoresAbsent and IgnoresMatch are services that take a put whose If-None-Match or If-Match does not hold.
	IgnoresAbsent, IgnoresMatch bool
	// Refuses is one that answers 501 to both.
	Refuses bool
	// MissingStatus is the answer to If-Match where there is no object: 404 or 412.
	MissingStatus int
	// Busy is one that answers 409 to every other conditional put, as AWS does when two meet.
	Busy bool
	// ETag makes an etag that is not the MD5 of the content, as with encryption at rest.
	ETag func(data []byte, version int) string
	// DeleteMissing is the answer to the deletion of nothing: 204 or 404.
	DeleteMissing int
}

// Service is one bucket of a provider.
type Service struct {
	p Provider

	mu      sync.Mutex
	objects map[string]object
	version int
	busy    bool
}

type object struct {
	data     []byte
	etag     string
	modified time.Time
}

var _ http.Handler = (*Service)(nil)

// New returns an empty bucket.
func New(p Provider) *Service {
	if p.MissingStatus == 0 {
		p.MissingStatus = http.StatusNotFound
	}
	if p.DeleteMissing == 0 {
		p.DeleteMissing = http.StatusNoContent
	}
	if p.ETag == nil {
		p.ETag = func(data []byte, _ int) string { sum := md5.Sum(data); return hex.EncodeToString(sum[:]) }
	}
	return &Service{p: p, objects: make(map[string]object)}
}

var codes = map[int]string{404: "NoSuchKey", 409: "ConditionalRequestConflict", 412: "PreconditionFailed", 416: "InvalidRange", 501: "NotImplemented"}

func refuse(w http.ResponseWriter, status int) {
	w.WriteHeader(status)
	fmt.Fprintf(w, "<Error><Code>%s</Code><Message>no</Message></Error>", codes[status])
}

func (s *Service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_, key, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	o, found := s.objects[key]
	switch {
	case r.Method == http.MethodPut:
		s.put(w, r, key, body, o, found)
	case r.Method == http.MethodDelete:
		delete(s.objects, key)
		if found || s.p.DeleteMissing == http.StatusNoContent {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		refuse(w, s.p.DeleteMissing)
	case key == "":
		s.list(w, r)
	case !found:
		refuse(w, http.StatusNotFound)
	default:
		get(w, r, o)
	}
}

func (s *Service) put(w http.ResponseWriter, r *http.Request, key string, body []byte, o object, found bool) {
	absent, match := r.Header.Get("If-None-Match") != "", strings.Trim(r.Header.Get("If-Match"), `"`)
	if s.p.Busy && (absent || match != "") {
		if s.busy = !s.busy; s.busy {
			refuse(w, http.StatusConflict)
			return
		}
	}
	switch {
	case s.p.Refuses && (absent || match != ""):
		refuse(w, http.StatusNotImplemented)
	case absent && found && !s.p.IgnoresAbsent:
		refuse(w, http.StatusPreconditionFailed)
	case match != "" && !found && !s.p.IgnoresMatch:
		refuse(w, s.p.MissingStatus)
	case match != "" && match != o.etag && !s.p.IgnoresMatch:
		refuse(w, http.StatusPreconditionFailed)
	default:
		s.version++
		o = object{body, s.p.ETag(body, s.version), time.Now()}
		s.objects[key] = o
		w.Header().Set("ETag", strconv.Quote(o.etag))
	}
}

func get(w http.ResponseWriter, r *http.Request, o object) {
	h := w.Header()
	h.Set("ETag", strconv.Quote(o.etag))
	h.Set("Last-Modified", o.modified.UTC().Format(http.TimeFormat))
	data, status := o.data, http.StatusOK
	if spec, ok := strings.CutPrefix(r.Header.Get("Range"), "bytes="); ok {
		first, last, _ := strings.Cut(spec, "-")
		from, _ := strconv.Atoi(first)
		to := len(data) - 1
		if n, err := strconv.Atoi(last); err == nil {
			to = min(n, to)
		}
		if from >= len(data) {
			refuse(w, http.StatusRequestedRangeNotSatisfiable)
			return
		}
		h.Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, to, len(data)))
		data, status = data[from:to+1], http.StatusPartialContent
	}
	h.Set("Content-Length", strconv.Itoa(len(data)))
	w.WriteHeader(status)
	if r.Method == http.MethodGet {
		_, _ = w.Write(data) // a client that has gone is its own affair
	}
}

// listed is the answer to ListObjectsV2, pageSize keys at once.
type listed struct {
	XMLName               xml.Name `xml:"ListBucketResult"`
	IsTruncated           bool
	NextContinuationToken string
	Contents              []listedObject
}

type listedObject struct {
	Key          string
	LastModified string
	ETag         string
	Size         int
}

const pageSize = 7

func (s *Service) list(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	after := max(q.Get("start-after"), q.Get("continuation-token"))
	var keys []string
	for k := range s.objects {
		if strings.HasPrefix(k, q.Get("prefix")) && k > after {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	var out listed
	if len(keys) > pageSize {
		keys = keys[:pageSize]
		out.IsTruncated, out.NextContinuationToken = true, keys[pageSize-1]
	}
	for _, k := range keys {
		o := s.objects[k]
		out.Contents = append(out.Contents, listedObject{k, o.modified.UTC().Format(time.RFC3339), strconv.Quote(o.etag), len(o.data)})
	}
	_ = xml.NewEncoder(w).Encode(out) // as above
}
