package ledger

import "encoding/hex"

// OfFirmware is the Content of a device by what it reports: a SHA-256 in hex, else a version, else
// nothing. A digest that is none counts as not reported.
func OfFirmware(version, digest string) Content {
	var d Digest
	if n, err := hex.Decode(d[:], []byte(digest[:min(len(digest), 2*len(d))])); err == nil && n == len(d) && d != (Digest{}) {
		return Content{Strength: StrengthDigest, Digest: d, Version: version}
	}
	if version != "" {
		return Content{Strength: StrengthVersion, Version: version}
	}
	return Content{Strength: StrengthNone}
}
