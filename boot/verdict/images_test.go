package verdict

import (
	"fmt"
	"strings"

	"github.com/ratchetos/ratchet/boot/ledger"
)

// ledgerImages puts images into the ledger that E vouches for: "A=one/1 B=-" for slot B bad.
func (w *world) ledgerImages(words []string) {
	l := newest(w.f.Ledger.Contents).Clone()
	l.Images = nil
	for _, word := range words {
		slot, rest, _ := strings.Cut(word, "=")
		image := imageContent(rest)
		l.Images = append(l.Images, ledger.Image{Slot: slot, Digest: image.Digest, Version: image.SecurityVersion()})
	}
	w.store(l, true)
}

// imageContent reads "image/security version", "-" for none.
func imageContent(word string) ledger.Content {
	name, version, _ := strings.Cut(word, "/")
	c := ledger.OfDigest(digest(name))
	c.Version = version
	return c
}

// images is what Settle makes of slots that read back as "A=one B=damaged:…".
func (w *world) images(input string) string {
	w.f.Images = nil
	for word := range strings.FieldsSeq(input) {
		slot, rest, _ := strings.Cut(word, "=")
		c := SlotContent{Slot: slot}
		if why, bad := strings.CutPrefix(rest, "damaged:"); bad {
			c.Err = why
		} else {
			c.Digest = digest(rest)
		}
		w.f.Images = append(w.f.Images, c)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "read: %v\n", w.j.ImagesToRead())
	o := Settle(w.f, w.j, nil)
	for _, i := range o.Images {
		fmt.Fprintf(&b, "%s: %s %s: %s\n", i.Slot, i.Decision, i.Code, i.Reason)
		if i.Next != "" {
			fmt.Fprintf(&b, "  next: %s\n", i.Next)
		}
	}
	if o.Next == nil {
		return b.String() + "ledger: unchanged\n"
	}
	b.WriteString("ledger:")
	for _, i := range o.Next.Images {
		fmt.Fprintf(&b, " %s=%s/%d", i.Slot, imageName(i.Digest), i.Version)
	}
	return b.String() + "\n"
}

func imageName(d ledger.Digest) string {
	for _, name := range []string{"-", "one", "two", "three"} {
		if digest(name) == d {
			return name
		}
	}
	return d.Short()
}
