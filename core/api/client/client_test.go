package client

import "testing"

func TestParseAddress(t *testing.T) {
	for in, want := range map[string]string{
		"unix:/run/x.sock": "unix /run/x.sock",
		"box":              "tcp box:8443",
		"box:9000":         "tcp box:9000",
		":9000":            "tcp localhost:9000",
		"tcp:10.0.0.1":     "tcp 10.0.0.1:8443",
		"10.0.0.1:1":       "tcp 10.0.0.1:1",
		"fd00::1":          "tcp [fd00::1]:8443",
		"[fd00::1]":        "tcp [fd00::1]:8443",
		"[fd00::1]:9":      "tcp [fd00::1]:9",
		"":                 "error",
		"tcp:":             "error",
		"unix:":            "error",
		"box:1:2":          "error",
	} {
		network, address, err := ParseAddress(in)
		got := network + " " + address
		if err != nil {
			got = "error"
		}
		if got != want {
			t.Errorf("ParseAddress(%q) = %s (%v), want %s", in, got, err, want)
		}
	}
}

func TestNewNeedsCredentials(t *testing.T) {
	if _, err := New(Options{Address: "box"}); err == nil {
		t.Error("a client without certificate was made")
	}
	if _, err := New(Options{Address: "box", Credentials: &Credentials{}}); err == nil {
		t.Error("a client with an empty certificate was made")
	}
}

func TestCredentialsAreKept(t *testing.T) {
	dir := t.TempDir() + "/contexts/lab"
	saved := &Credentials{CA: []byte("a"), Certificate: []byte("b"), Key: []byte("c")}
	if err := saved.Save(dir); err != nil {
		t.Fatal(err)
	}
	got, err := Load(dir)
	if err != nil || string(got.CA)+string(got.Certificate)+string(got.Key) != "abc" {
		t.Errorf("loaded %+v, %v", got, err)
	}
	if _, err := Load(dir + "x"); err == nil {
		t.Error("credentials were loaded from nowhere")
	}
}
