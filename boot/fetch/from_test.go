package fetch

import (
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	for _, c := range []struct{ args, wrong string }{
		{"http://192.0.2.10/update.bundle", ""},
		{"http://192.0.2.10:8080/a/b.bundle 198.51.100.5/24 198.51.100.1", ""},
		{"http://[2001:db8::1]/b 2001:db8::5/64", ""},
		{"", "want URL"},
		{"http://192.0.2.10/b 192.0.2.5/24 192.0.2.1 more", "want URL"},
		{"https://192.0.2.10/b", "only http"},
		{"file:///etc/passwd", "only http"},
		{"http://user:secret@192.0.2.10/b", "no use here"},
		{"http://example.org/b", "names are not looked up"},
		{"http://0.0.0.0/b", "names are not looked up"},
		{"http://192.0.2.10/b 192.0.2.5", "ADDRESS/LENGTH"},
		{"http://192.0.2.10/b 2001:db8::5/64", "different families"},
		{"http://[2001:db8::1]/b", "DHCP is for IPv4"},
		{"http://192.0.2.10/b 192.0.2.5/24 203.0.113.1", "gateway"},
		{"http://192.0.2.10/%zz", "URL"},
	} {
		f, err := Parse(strings.Fields(c.args))
		switch {
		case c.wrong == "" && (err != nil || f.URL == nil):
			t.Errorf("%s: %v", c.args, err)
		case c.wrong != "" && (err == nil || !strings.Contains(err.Error(), c.wrong)):
			t.Errorf("%s: %v, want %q", c.args, err, c.wrong)
		}
	}
}

// FuzzParse: whatever is typed, what is taken can be fetched: a host that is an address, and a way to it.
func FuzzParse(f *testing.F) {
	f.Add("http://192.0.2.10/update.bundle 192.0.2.5/24 192.0.2.1")
	f.Add("http://[2001:db8::1]:80/ 2001:db8::5/64")
	f.Add("http://%31/")
	f.Fuzz(func(t *testing.T, line string) {
		from, err := Parse(strings.Fields(line))
		if err != nil {
			return
		}
		if from.URL.Scheme != "http" || from.URL.Hostname() == "" {
			t.Errorf("%q gives %v", line, from.URL)
		}
		if from.Gateway.IsValid() && !from.Address.Contains(from.Gateway) {
			t.Errorf("%q: gateway %s outside of %s", line, from.Gateway, from.Address)
		}
	})
}
