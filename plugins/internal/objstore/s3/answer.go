package s3

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"

	"github.com/ratchetos/ratchet/plugins/internal/objstore"
)

// maxAnswer bounds the text of an error, in bytes.
const maxAnswer = 1 << 20

// answers takes for the service's word only what it can have said. A proxy in front of it that has no back end for a
// while answers 404 as well, and the client library would make "no such object" of that.
type answers struct{ http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (a answers) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := a.RoundTripper.RoundTrip(req)
	if err != nil || !doubtful(req.Method, resp.StatusCode) {
		return resp, err
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	resp.Body.Close()
	if err != nil {
		return nil, err
	}
	var said struct {
		XMLName xml.Name `xml:"Error"`
		Code    string
	}
	if xml.Unmarshal(body, &said) != nil || said.Code == "" {
		return nil, fmt.Errorf("%w: %s without an S3 error, so from something in front of the service: %.200q", objstore.ErrUnavailable, resp.Status, body)
	}
	resp.Body = io.NopCloser(bytes.NewReader(body))
	return resp, nil
}

// doubtful says of which answers the service gives a reason, always in XML. An answer to HEAD has no body; 412 and 416
// answer a condition and a range, which a proxy leaves to the service, and some services say nothing more.
func doubtful(method string, status int) bool {
	return status >= 400 && status < 500 && method != http.MethodHead &&
		status != http.StatusPreconditionFailed && status != http.StatusRequestedRangeNotSatisfiable
}
