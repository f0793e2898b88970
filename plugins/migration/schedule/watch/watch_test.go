package watch

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
)

func TestScripts(t *testing.T) {
	datadriven.Walk(t, "testdata/scripts", func(t *testing.T, path string) {
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			switch d.Cmd {
			case "csv":
				list, err := ReadCSV(strings.NewReader(d.Input))
				if err != nil {
					return err.Error()
				}
				var b strings.Builder
				for _, s := range list {
					fmt.Fprintln(&b, s.At.Format(time.RFC3339Nano), s.Value)
				}
				return b.String()
			case "page": // the first line is the metric, the others the page
				want, page, _ := strings.Cut(d.Input, "\n")
				m, err := ParseMetric(want)
				if err != nil {
					return err.Error()
				}
				v, err := m.Read(strings.NewReader(page))
				if err != nil {
					return err.Error()
				}
				return fmt.Sprint(v)
			}
			d.Fatalf(t, "unknown command %s", d.Cmd)
			return ""
		})
	})
}

// TestPage: a counter on a page that is served becomes a rate; a page that is not there is an error that names it.
func TestPage(t *testing.T) {
	total := 1000
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/metrics" {
			http.NotFound(w, r)
			return
		}
		total += 500
		fmt.Fprintf(w, "# HELP tx bytes\n# TYPE tx_total counter\ntx_total{device=\"eth0\"} %d\ntx_total{device=\"lo\"} 9\n", total)
	}))
	defer server.Close()
	now := time.Unix(1000, 0)
	p := &Page{URL: server.URL + "/metrics", Metric: Metric{"tx_total", map[string]string{"device": "eth0"}}, Client: server.Client()}
	clock := func() time.Time { now = now.Add(10 * time.Second); return now }
	if _, ok, err := p.Look(context.Background(), clock); ok || err != nil {
		t.Errorf("the first look: %v, %v", ok, err)
	}
	s, ok, err := p.Look(context.Background(), clock)
	if err != nil || !ok || s.Value != 50 {
		t.Errorf("the second look: %v, %v, %v, not 50 a second", s, ok, err)
	}
	p.URL = server.URL + "/nothing"
	if _, _, err := p.Look(context.Background(), clock); err == nil || !strings.Contains(err.Error(), "404") {
		t.Errorf("no page: %v", err)
	}
	p.URL, p.Metric.Labels["device"] = server.URL+"/metrics", "eth7"
	if _, _, err := p.Look(context.Background(), clock); !errors.Is(err, ErrNoSeries) {
		t.Errorf("no series: %v", err)
	}
}

func TestRate(t *testing.T) {
	var r Rate
	at := time.Unix(0, 0)
	for i, c := range []struct {
		after time.Duration
		value float64
		rate  float64
		ok    bool
	}{
		{time.Second, 100, 0, false},      // the first
		{time.Second, 300, 200, true},     //
		{time.Second, 10, 0, false},       // began anew
		{2 * time.Second, 30, 10, true},   //
		{-time.Second, 40, 0, false},      // the clock went back
		{2 * time.Hour, 1e12, 0, false},   // nobody looked
		{time.Second, 1e12 + 5, 5, true},  //
		{0, 1e12 + 10, 0, false},          // no time between
		{time.Second, 1e12 + 10, 0, true}, // idle
	} {
		at = at.Add(c.after)
		if rate, ok := r.Next(at, c.value); rate != c.rate || ok != c.ok {
			t.Errorf("look %d: %v %v, not %v %v", i, rate, ok, c.rate, c.ok)
		}
	}
}

func FuzzReadCSV(f *testing.F) {
	f.Add("time,value\n2026-03-02 20:00:00,5\n1772481600,6,more\n")
	f.Fuzz(func(t *testing.T, text string) {
		list, err := ReadCSV(strings.NewReader(text))
		for _, s := range list {
			if err == nil && (s.Value != s.Value || s.At.Year() < 1970) {
				t.Fatalf("took %v", s)
			}
		}
	})
}

func FuzzMetric(f *testing.F) {
	f.Add(`a{b="c\"\n",d="e"}`, "a{b=\"c\\\"\\n\",d=\"e\"} 1 1772481600\n")
	f.Fuzz(func(t *testing.T, metric, page string) {
		m, err := ParseMetric(metric)
		if err != nil {
			return
		}
		if v, err := m.Read(strings.NewReader(page)); err == nil && v != v {
			t.Fatal("not a number")
		}
	})
}
