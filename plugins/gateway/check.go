package gateway

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"iter"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/ratchetos/ratchet/core/plugin"
	"github.com/ratchetos/ratchet/plugins/gateway/target/exports"
	"github.com/ratchetos/ratchet/plugins/gateway/upload"
	"github.com/ratchetos/ratchet/plugins/internal/log"
	"github.com/ratchetos/ratchet/plugins/internal/objstore/driver"
)

const (
	maxVolumes = 32
	maxName    = 48
	maxSize    = 16 << 40
	minBatch   = 1 << 20
	maxBatch   = 48 << 20 // with headers and incompressible data still one object
	maxRing    = 1 << 30
	minRing    = 2 * ringUnit
	minCache   = 32 << 20 // a log with room to turn in
	maxAhead   = 64 << 20
	keySize    = 32
)

// check adds everything that is wrong with the section.
func check(c *Config, v *plugin.Validation) {
	names := map[string]int{}
	for i := range c.Volumes {
		vc := &c.Volumes[i]
		at := fmt.Sprintf("volumes[%d]", i)
		checkVolume(v, at, vc)
		if first, taken := names[vc.Name]; taken && vc.Name != "" {
			v.Errorf(at+".name", "name %q is already used by volumes[%d]", vc.Name, first)
		} else {
			names[vc.Name] = i
		}
	}
	checkNBD(v, c.NBD)
	c.Target.Check(v, "target", c.exportable())
	checkAddresses(v, c)
	durations(v, "scrub.every", c.Scrub.Every, 365*24*time.Hour)
}

func checkVolume(v *plugin.Validation, at string, c *VolumeConfig) {
	if c.Name != "" && (len(c.Name) > maxName || !validName(c.Name)) {
		v.Errorf(at+".name", "name %q: use 1 to %d of a-z, 0-9 and -, starting with a letter or digit", c.Name, maxName)
	}
	if c.Size != 0 && (c.Size%log.BlockSize != 0 || c.Size > maxSize || c.Size < 0) {
		v.Errorf(at+".size", "size %d: use a multiple of 4096 up to 16 TiB", c.Size)
	}
	if c.Ring%ringUnit != 0 || c.Ring < minRing || c.Ring > maxRing {
		v.Errorf(at+".ring", "ring of %s: use a multiple of 4MiB from 8MiB to 1GiB", c.Ring)
	}
	if c.CacheSize != 0 && c.CacheSize < minCache {
		v.Errorf(at+".cache_size", "%s: use at least 32MiB", c.CacheSize)
	}
	if c.ReadAhead != nil && *c.ReadAhead > maxAhead {
		v.Errorf(at+".read_ahead", "%s: use up to 64MiB; 0 turns it off", *c.ReadAhead)
	}
	durations(v, at+".read_timeout", c.ReadTimeout, time.Hour)
	checkUpload(v, at+".upload", c.Upload)
	checkKey(v, at+".encryption", c.Encryption)
	for _, p := range driver.Check(c.Store) {
		// A missing store has been reported whole already.
		if c.Store != (driver.Config{}) {
			v.Errorf(at+".store."+p.Field, "%s", p.Message)
		}
	}
}

func checkUpload(v *plugin.Validation, at string, c UploadConfig) {
	if b := c.MaxBatch; b != 0 && (b < minBatch || b > maxBatch) {
		v.Errorf(at+".max_batch", "batch of %d bytes: use %d MiB to %d MiB", b, minBatch>>20, maxBatch>>20)
	}
	durations(v, at+".max_age", c.MaxAge, time.Hour)
	for i, b := range c.Bandwidth {
		at := fmt.Sprintf("%s.bandwidth[%d]", at, i)
		for _, f := range []struct{ field, time string }{{".from", b.From}, {".to", b.To}} {
			if _, err := upload.ParseClock(f.time); err != nil && f.time != "" {
				v.Errorf(at+f.field, "%v", err)
			}
		}
		if b.Rate != 0 && b.Rate < 64<<10 {
			v.Errorf(at+".rate", "%s a second would take days for one batch: use at least 64KiB, or upload.hold to upload nothing", b.Rate)
		}
	}
}

func checkKey(v *plugin.Validation, at string, c EncryptionConfig) {
	switch {
	case c.Key != "" && c.KeyFile != "":
		v.Errorf(at+".key_file", "key and key_file are both given: remove one")
	case c.Key != "":
		if _, err := parseKey(c.Key); err != nil {
			v.Errorf(at+".key", "%v", err)
		}
	case c.KeyFile != "" && !filepath.IsAbs(c.KeyFile):
		v.Errorf(at+".key_file", "%q is not absolute", c.KeyFile)
	case c.given && c.KeyFile == "":
		v.Errorf(at, "neither key nor key_file is given: give one, or remove the section to have nothing encrypted")
	}
}

// parseKey does not quote what it was given.
func parseKey(text string) ([]byte, error) {
	key, err := hex.DecodeString(strings.TrimSpace(text))
	if err != nil || len(key) != keySize {
		return nil, fmt.Errorf("not a key: write 64 hexadecimal digits; openssl rand -hex 32 makes them")
	}
	return key, nil
}

func checkNBD(v *plugin.Validation, c NBDConfig) {
	seen := map[string]bool{}
	tcp := false
	for i, listen := range c.Listen {
		if seen[listen] {
			v.Errorf(fmt.Sprintf("nbd.listen[%d]", i), "%s is there already", listen)
		}
		seen[listen] = true
		tcp = tcp || !strings.HasPrefix(listen, "unix:")
	}
	if !c.TLS.given {
		return
	}
	if !tcp {
		v.Warnf("nbd.tls", "no client needs TLS: the server listens on unix sockets only")
	}
	inline := true
	for field, value := range c.TLS.fields() {
		path, isFile := strings.CutPrefix(value, "file:")
		switch {
		case isFile && !filepath.IsAbs(path):
			v.Errorf("nbd.tls."+field, "%q is not absolute", path)
		case !isFile && !strings.Contains(value, "-----BEGIN "):
			v.Errorf("nbd.tls."+field, "neither PEM text nor file:/path")
		}
		inline = inline && !isFile && strings.Contains(value, "-----BEGIN ")
	}
	for _, need := range []struct{ field, value string }{{"certificate", c.TLS.Certificate}, {"key", c.TLS.Key}} {
		if need.value == "" {
			v.Errorf("nbd.tls", "%s is missing", need.field)
			inline = false
		}
	}
	if inline {
		if _, err := c.TLS.load(nil); err != nil {
			v.Errorf("nbd.tls", "%v", err)
		}
	}
}

// checkAddresses looks for addresses of the NBD server that only one socket can have. An unspecified one, of either family, is all
// addresses to package net.
func checkAddresses(v *plugin.Validation, c *Config) {
	type taken struct {
		netip.AddrPort
		by string
	}
	var list []taken
	for _, e := range c.Target.List(c.exportable()) {
		for _, a := range e.Portals {
			list = append(list, taken{a, "a target"})
		}
	}
	for i, listen := range c.NBD.Listen {
		address, tcp := strings.CutPrefix(listen, "tcp:")
		if strings.HasPrefix(address, ":") {
			address = "[::]" + address
		}
		a, err := netip.ParseAddrPort(address)
		if !tcp || err != nil || a.Port() == 0 || slices.Index(c.NBD.Listen, listen) < i {
			continue // core's to judge, or said already
		}
		if a.Addr().IsUnspecified() {
			a = netip.AddrPortFrom(netip.IPv6Unspecified(), a.Port())
		}
		if j := slices.IndexFunc(list, func(t taken) bool { return exports.Overlap(t.AddrPort, a) }); j >= 0 {
			v.Errorf(fmt.Sprintf("nbd.listen[%d]", i), "%s is not to be had: %s listens on %s", listen, list[j].by, list[j].AddrPort)
			continue
		}
		list = append(list, taken{a, listen})
	}
}

// fields yields what is given, in a fixed order.
func (c TLSConfig) fields() iter.Seq2[string, string] {
	return func(yield func(string, string) bool) {
		for _, f := range []struct{ name, value string }{{"certificate", c.Certificate}, {"key", c.Key}, {"client_ca", c.ClientCA}} {
			if f.value != "" && !yield(f.name, f.value) {
				return
			}
		}
	}
}

// load makes the server's side of TLS; read returns the text of what is given as a file.
func (c TLSConfig) load(read func(field string) ([]byte, error)) (*tls.Config, error) {
	pem := map[string][]byte{}
	for field, value := range c.fields() {
		pem[field] = []byte(value)
		if strings.HasPrefix(value, "file:") {
			var err error
			if pem[field], err = read(field); err != nil {
				return nil, err
			}
		}
	}
	pair, err := tls.X509KeyPair(pem["certificate"], pem["key"])
	if err != nil {
		return nil, fmt.Errorf("certificate and key: %w", err)
	}
	out := &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
	if pem["client_ca"] != nil {
		out.ClientCAs, out.ClientAuth = x509.NewCertPool(), tls.RequireAndVerifyClientCert
		if !out.ClientCAs.AppendCertsFromPEM(pem["client_ca"]) {
			return nil, fmt.Errorf("client_ca: holds no certificate")
		}
	}
	return out, nil
}

func durations(v *plugin.Validation, at string, d plugin.Duration, limit time.Duration) {
	if d < 0 || time.Duration(d) > limit {
		v.Errorf(at, "%s: use a duration up to %s", d, plugin.Duration(limit))
	}
}

func validName(s string) bool {
	for i, c := range s {
		switch {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '-' && i > 0:
		default:
			return false
		}
	}
	return s != ""
}
