package watch

import (
	"context"
	"fmt"
	"net/http"
	"time"
)

// Page is a metric on a page of metrics. It is used by one goroutine.
type Page struct {
	URL    string
	Metric Metric
	Client *http.Client // nil is http.DefaultClient
	rate   Rate
}

// lookLimit bounds one look.
const lookLimit = 10 * time.Second

// Look reads the page. ok is false when it was read but says nothing yet: a counter needs two looks.
func (p *Page) Look(ctx context.Context, now func() time.Time) (s Sample, ok bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, lookLimit)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.URL, nil)
	if err != nil {
		return s, false, err
	}
	client := p.Client
	if client == nil {
		client = http.DefaultClient
	}
	resp, err := client.Do(req)
	if err != nil {
		return s, false, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return s, false, fmt.Errorf("get %s: %s", p.URL, resp.Status)
	}
	value, err := p.Metric.Read(resp.Body)
	if err != nil {
		return s, false, fmt.Errorf("%s on %s: %w", p.Metric.Name, p.URL, err)
	}
	s = Sample{now(), value}
	if p.Metric.Counter() {
		s.Value, ok = p.rate.Next(s.At, value)
		return s, ok, nil
	}
	return s, true, nil
}
