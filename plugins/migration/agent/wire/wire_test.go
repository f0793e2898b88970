package wire

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"testing"
)

func TestParseRequest(t *testing.T) {
	for name, c := range map[string]struct {
		line, wrong string
		answer      bool // there is an ID to answer to
	}{
		"whole":        {`{"v":1,"id":"a","verb":"ping","wait_ms":5,"args":{"x":1}}`, "", true},
		"newer":        {`{"v":9,"id":"a","verb":"ping","what":[]}`, "", true},
		"unknown verb": {`{"id":"a","verb":"fly"}`, "", true}, // the agent's to say
		"no JSON":      {`{"id":"a"`, "parse request", false},
		"no ID":        {`{"verb":"ping"}`, "no id", false},
		"no verb":      {`{"id":"a"}`, "no verb", true},
		"long ID":      {`{"verb":"ping","id":"` + strings.Repeat("x", MaxID+1) + `"}`, "longer than 128", false},
		"long wait":    {`{"id":"a","verb":"ping","wait_ms":60001}`, "at most 60000", true},
		"negative":     {`{"id":"a","verb":"ping","wait_ms":-1}`, "at most 60000", true},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := ParseRequest([]byte(c.line))
			if (err == nil) != (c.wrong == "") || err != nil && !strings.Contains(err.Error(), c.wrong) {
				t.Errorf("error %v, want %q", err, c.wrong)
			}
			if (r.ID != "") != c.answer {
				t.Errorf("ID %q", r.ID)
			}
		})
	}
}

func TestParseResponse(t *testing.T) {
	for line, ok := range map[string]bool{
		`{"id":"a","result":{}}`:                     true,
		`{"id":"a","error":{"code":"x","text":"y"}}`: true,
		`{"id":"a"}`:            false,
		`{"result":{}}`:         false,
		`{"id":"a","result":{}`: false,
		`{"id":"a","result":1,"error":{"code":"x","text":"y"}}`:          false,
		`{"id":"` + strings.Repeat("x", MaxID+1) + `","result":{"a":1}}`: false,
	} {
		if _, err := ParseResponse([]byte(line)); (err == nil) != ok {
			t.Errorf("%s: %v", line, err)
		}
	}
}

func TestLine(t *testing.T) {
	if b, err := Line(Request{Version: 1, ID: "a", Verb: Ping}); err != nil || string(b) != `{"v":1,"id":"a","verb":"ping"}`+"\n" {
		t.Errorf("%q %v", b, err)
	}
	if _, err := Line(Response{ID: strings.Repeat("x", MaxLine)}); err == nil {
		t.Error("a line without bounds was made")
	}
}

// feed cuts the stream at every length of piece.
func feed(stream string, piece int) (out []string) {
	var l Lines
	for part := range slices.Chunk([]byte(stream), piece) {
		l.Feed(part, func(line []byte) { out = append(out, string(line)) })
	}
	return out
}

func TestLines(t *testing.T) {
	long := strings.Repeat("x", MaxLine)
	for stream, want := range map[string][]string{
		"":                        nil,
		"a\nb\n":                  {"a", "b"},
		"a\n\n \r\nb\nhalf":       {"a", "b"},
		"half{\"id\n{\"id\":1}\n": {`half{"id`, `{"id":1}`},
		long + "\nb\n":            {"b"},
		long[1:] + "\nb\n":        {long[1:], "b"},
		"a\n" + long + long:       {"a"},
	} {
		for _, piece := range []int{1, 7, 4096, len(stream) + 1} {
			if got := feed(stream, piece); !slices.Equal(got, want) {
				t.Errorf("%.20q in pieces of %d: %.60q", stream, piece, got)
			}
		}
	}
}

func FuzzParseRequest(f *testing.F) {
	f.Add([]byte(`{"v":1,"id":"a","verb":"swap-nic","wait_ms":10,"args":{"from":"52:54:00:00:00:01","to":"52:54:00:00:00:02"}}`))
	f.Add([]byte(`{"v":1,"id":"a","verb":"online-cpus","args":{"online":-1}}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		r, err := ParseRequest(line)
		if err != nil {
			return
		}
		b, err := Line(r)
		if err != nil {
			return // it grew by escaping
		}
		again, err := ParseRequest(bytes.TrimSpace(b))
		if err != nil || again.ID != r.ID || again.Verb != r.Verb || again.Wait != r.Wait {
			t.Errorf("%q became %q: %v", line, b, err)
		}
	})
}

func FuzzParseResponse(f *testing.F) {
	f.Add([]byte(`{"v":1,"id":"a","result":{"boot_id":"x"}}`))
	f.Add([]byte(`{"v":1,"id":"a","error":{"code":"busy","text":""}}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		r, err := ParseResponse(line)
		if err == nil && r.Error == nil && !json.Valid(r.Result) {
			t.Errorf("%q has no result", line)
		}
	})
}

// FuzzLines holds the cutter to a plain definition, whatever the pieces.
func FuzzLines(f *testing.F) {
	f.Add("a\nb\n\nc", uint8(2))
	f.Add("{\"id\":1}\n{", uint8(1))
	f.Fuzz(func(t *testing.T, stream string, piece uint8) {
		var want []string
		whole := strings.Split(stream, "\n")
		for _, line := range whole[:len(whole)-1] {
			if line = string(bytes.TrimSpace([]byte(line))); line != "" && len(line) < MaxLine {
				want = append(want, line)
			}
		}
		if got := feed(stream, int(piece)+1); !slices.Equal(got, want) {
			t.Errorf("%q: %q, want %q", stream, got, want)
		}
	})
}
