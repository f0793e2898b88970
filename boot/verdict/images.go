package verdict

import (
	"fmt"
	"slices"
	"strings"

	"github.com/ratchetos/ratchet/boot/ledger"
)

// imageSlots are the slots that a box has.
var imageSlots = []string{"A", "B"}

// Image is the verdict on an image slot. A slot that is not released is never booted by choice; the box itself does
// not depend on it: the running image is proven by its signed policy.
type Image struct {
	Slot string `json:"slot"`
	// Digest is the SHA-256 of the UKI in it, zero when the slot is bad.
	Digest ledger.Digest `json:"digest"`
	// Version is its security version.
	Version uint64 `json:"version"`
	Verdict
}

// SlotContent is an image slot as it read back.
type SlotContent struct {
	Slot   string
	Digest ledger.Digest
	Err    string // why it holds no image of ours
}

// ImagesToRead names the slots whose content decides something at this boot: those of open attempts, and all of them
// when the ledger is made anew. Reading one takes as long as hashing an image; nothing else reads a slot.
func (j *Judgement) ImagesToRead() []string {
	if !j.Released() || j.Code == "tpm-unused" {
		return nil
	}
	if j.Action != None {
		return slices.Clone(imageSlots)
	}
	var out []string
	for _, i := range j.Open {
		if slot, ok := strings.CutPrefix(i.Target, ledger.SlotTarget("")); ok && !slices.Contains(out, slot) {
			out = append(out, slot)
		}
	}
	slices.Sort(out)
	return out
}

// images decides on the slots and puts them into the next ledger.
func (s *settling) images(f Facts) []Image {
	if s.unchecked {
		return nil
	}
	read := map[string]SlotContent{}
	for _, c := range f.Images {
		read[c.Slot] = c
	}
	s.next.Images = nil
	var out []Image
	for _, slot := range imageSlots {
		var i Image
		content, ok := read[slot]
		if ok {
			i = s.image(f, s.old.Image(slot), content)
		} else {
			i = expectedImage(s.old.Image(slot))
		}
		out = append(out, i)
		s.next.Images = append(s.next.Images, ledger.Image{Slot: slot, Digest: i.Digest, Version: i.Version})
	}
	return out
}

// expectedImage is a slot that nothing was tried on.
func expectedImage(was ledger.Image) Image {
	i := Image{Slot: was.Slot, Digest: was.Digest, Version: was.Version}
	if was.Digest == (ledger.Digest{}) {
		return i.bad("slot-bad", "it has held no good image since an earlier boot")
	}
	return i.good("ok", "nothing was tried on it since it was read")
}

func (s *settling) image(f Facts, was ledger.Image, seen SlotContent) Image {
	i := Image{Slot: was.Slot, Digest: seen.Digest, Version: was.Version}
	content := ledger.OfDigest(seen.Digest)
	attempt, open := s.intents[ledger.SlotTarget(was.Slot)]
	switch {
	case seen.Err != "" && open:
		return i.bad("slot-unfinished", "attempt %d did not reach its end: %s", attempt.Number, seen.Err)
	case seen.Err != "":
		return i.bad("slot-bad", "%s", seen.Err)
	case open && attempt.To.Matches(content):
		i.Version = attempt.To.SecurityVersion()
		return i.good("closed", "attempt %d wrote image %s", attempt.Number, content)
	case open && attempt.From.Matches(content):
		if seen.Digest != was.Digest { // an attempt before the last one was carried out
			i.Version = attempt.From.SecurityVersion()
		}
		return i.good("closed", "attempt %d changed nothing, it still holds image %s", attempt.Number, content)
	case open:
		return i.bad("slot-unfinished", "attempt %d was to lead from %s to %s, but it reads %s", attempt.Number, attempt.From, attempt.To, content)
	case s.adopt:
		i.Version = s.baseline(f, seen)
		return i.good("baseline", "image %s was found in it", content)
	case seen.Digest != was.Digest:
		return i.bad("slot-changed", "it should hold %s and reads %s", ledger.OfDigest(was.Digest), content)
	}
	return i.good("ok", "it reads back as expected")
}

// baseline is the security version of an image that was found and not written by an update: only the running one's
// is known, from its signed policy. Zero keeps V where it is until an update has written the slot.
func (s *settling) baseline(f Facts, seen SlotContent) uint64 {
	if f.Approval == nil {
		return 0
	}
	for _, c := range f.Images {
		// Without a slot this is a direct boot of a development image: its disk is from the same build.
		if (c.Slot == f.Slot || f.Slot == "") && c.Digest == seen.Digest {
			return uint64(f.Approval.Version)
		}
	}
	return 0
}

func (i Image) good(code, reason string, args ...any) Image {
	i.Verdict = Verdict{Decision: Released, Code: code, Reason: fmt.Sprintf(reason, args...)}
	return i
}

func (i Image) bad(code, reason string, args ...any) Image {
	i.Digest, i.Version = ledger.Digest{}, 0
	i.Verdict = Verdict{
		Decision: Isolated, Code: code, Reason: fmt.Sprintf(reason, args...),
		Next: "ratchetctl update settle, or update apply",
	}
	return i
}
