package verdict

import (
	"fmt"
	"slices"
	"sort"
	"strings"

	"github.com/ratchetos/ratchet/boot/ledger"
)

// Outcome is what is left to do after the devices have read back.
type Outcome struct {
	Devices []Device
	Images  []Image
	// Closed counts the attempts that the next ledger closes.
	Closed int
	// Next is the ledger to write before E, nil when nothing changed.
	Next *ledger.Ledger
}

// Settle decides on the devices of a released box and makes the next ledger.
func Settle(f Facts, j Judgement, seen []Observed) Outcome {
	s := settling{old: &ledger.Ledger{}, adopt: j.Adopt || j.Action == Provision || j.Action == Rebind, strict: !j.Adopt && !f.Development, loud: !j.Adopt, unchecked: j.Code == "tpm-unused", intents: map[string]ledger.Intent{}, reached: map[string][]ledger.Content{}}
	if j.Ledger != nil {
		s.old = j.Ledger
	}
	for _, i := range j.Open {
		s.intents[i.Target] = i // the last one of a target counts
		s.reached[i.Target] = append(s.reached[i.Target], i.To)
	}
	s.next = s.old.Clone()
	s.next.Devices = nil
	s.devices(seen)
	o := Outcome{Devices: s.verdicts, Images: s.images(f), Closed: len(j.Open)}
	if s.unchecked || j.Action == None && len(j.Open) == 0 && !j.Ahead {
		return o // E stays as it is, and so does the ledger
	}
	s.next.Sequence++
	s.next.Counter, s.next.Journal = f.TPM.Counter, f.TPM.Journal
	s.next.Config = j.Config
	if j.Action != None {
		s.next.Box = ledger.Box{SRK: f.TPM.SRK, PCR7: f.TPM.PCR7, PCR11: f.TPM.PCR11, Policy: f.TPM.Policy, Image: f.Image}
	}
	o.Next = s.next
	return o
}

// AllIsolated are the device verdicts of a box that is not released.
func AllIsolated(ids []string) []Device {
	var out []Device
	for _, id := range ids {
		out = append(out, Device{ID: id, Verdict: Verdict{Decision: Isolated, Code: "box-isolated", Reason: "the box is isolated", Next: "ratchetctl status"}})
	}
	return out
}

type settling struct {
	old, next *ledger.Ledger
	adopt     bool // provisioning takes what it sees as the baseline …
	strict    bool // … but only what the catalogue knows to be good: nobody said "as it is"
	loud      bool // … and a development image says that nobody did
	unchecked bool // there is no TPM, and the image allows that
	intents   map[string]ledger.Intent
	reached   map[string][]ledger.Content // what the open attempts of a target were to lead to
	where     map[string]Device           // by id: place and kind, as seen or as known
	verdicts  []Device
}

func (s *settling) devices(seen []Observed) {
	// By place, so that verdict and ledger do not depend on the order of discovery.
	seen = append([]Observed(nil), seen...)
	sort.SliceStable(seen, func(a, b int) bool { return seen[a].Place < seen[b].Place })
	byID := map[string]Observed{}
	s.where = map[string]Device{}
	for _, d := range s.old.Devices {
		s.where[d.ID] = Device{Place: d.Place, Kind: d.Kind}
	}
	for _, o := range seen {
		s.where[o.ID] = Device{Place: o.Place, Kind: o.Kind}
		if _, twice := byID[o.ID]; twice {
			s.say(o.ID+" at "+o.Place, Isolated, "duplicate", nextDevice, "another device has the same id")
			continue
		}
		byID[o.ID] = o
	}
	known := map[string]bool{}
	gone := map[string]string{} // place to id
	for _, d := range s.old.Devices {
		known[d.ID] = true
		o, ok := byID[d.ID]
		if !ok {
			// A function that could not be bound has no id but its place.
			o, ok = byID[function(d.Place)]
			if ok = ok && o.Err != ""; ok {
				known[o.ID] = true
			}
		}
		if ok {
			s.compare(d, o)
			continue
		}
		if i, open := s.intents[ledger.DeviceTarget(d.ID)]; open && i.To.Strength == ledger.StrengthAbsent {
			continue // an operator has let it be forgotten
		}
		gone[d.Place] = d.ID
		s.next.Devices = append(s.next.Devices, d)
		s.say(d.ID, Isolated, "missing", "put it back, or "+nextConsole+"recover "+d.ID, "it was at %s and is not there any more", d.Place)
	}
	for _, o := range seen {
		if !known[o.ID] {
			known[o.ID] = true
			s.meet(o, gone[o.Place])
		}
	}
}

// function is the place without the "/<n>" of one of several devices behind it.
func function(place string) string {
	f, _, _ := strings.Cut(place, "/")
	return f
}

// compare judges a device that the ledger knows.
func (s *settling) compare(d ledger.Device, o Observed) {
	i, open := s.intents[ledger.DeviceTarget(d.ID)]
	switch {
	case o.Err != "":
		s.say(d.ID, Isolated, "unreadable", recoverDevice(d.ID), "it could not be read back: %s", o.Err)
	case open && i.To.Matches(o.Content):
		d.Content = o.Content
		s.say(d.ID, Released, "closed", "", "attempt %d reached %s", i.Number, o.Content)
	case open && i.From.Matches(o.Content) && d.Content.Matches(o.Content):
		s.say(d.ID, Released, "closed", "", "attempt %d changed nothing, it is still %s", i.Number, o.Content)
	case open && i.From.Matches(o.Content) && s.led(d.ID, o.Content):
		d.Content = o.Content // an attempt before the last one was carried out
		s.say(d.ID, Released, "closed", "", "attempt %d changed nothing, it is still %s", i.Number, o.Content)
	case open:
		s.say(d.ID, Isolated, "attempt-unfinished", recoverDevice(d.ID), "attempt %d was to lead from %s to %s, but it reads %s", i.Number, i.From, i.To, o.Content)
	case !d.Content.Matches(o.Content):
		s.say(d.ID, Isolated, "firmware-changed", recoverDevice(d.ID), "its firmware should be %s and reads %s: it was changed behind our back", d.Content, o.Content)
	default:
		d.Place = o.Place // moving it to another slot changes nothing that is trusted
		s.say(d.ID, Released, "ok", "", "it reads back as expected")
	}
	s.next.Devices = append(s.next.Devices, d)
}

// led says whether an open attempt was to lead a device to a content. What the last one started from is no proof of
// that: firmware that was changed behind our back is what it read too.
func (s *settling) led(id string, content ledger.Content) bool {
	return slices.ContainsFunc(s.reached[ledger.DeviceTarget(id)], func(to ledger.Content) bool { return to.Matches(content) })
}

// meet judges a device that the ledger does not know; replaced is what was at its place.
func (s *settling) meet(o Observed, replaced string) {
	i, open := s.intents[ledger.DeviceTarget(o.ID)]
	asked := open && i.From.Strength == ledger.StrengthAbsent && i.To.Matches(o.Content)
	switch {
	case o.Err != "":
		s.say(o.ID, Isolated, "unreadable", nextDevice, "it could not be read: %s", o.Err)
	case s.unchecked:
		s.say(o.ID, Released, "unchecked", "", "nothing is checked without a TPM")
	case s.adopt && s.strict && !o.KnownGood && !asked:
		s.say(o.ID, Quarantined, "baseline-unconfirmed", admit(o.ID), "its firmware %s is on no list of known good ones, so it is not taken as the baseline", o.Content)
	case (s.adopt || asked) && len(s.next.Devices) < ledger.MaxDevices:
		s.next.Devices = append(s.next.Devices, ledger.Device{ID: o.ID, Place: o.Place, Kind: o.Kind, Serial: o.Serial, Content: o.Content})
		reason := "it is new and was admitted with firmware %s"
		if s.adopt && s.loud && !o.KnownGood {
			reason += ", WHICH NOBODY CONFIRMED"
		}
		s.say(o.ID, Released, "admitted", "", reason, o.Content)
	case open && i.From.Strength == ledger.StrengthAbsent:
		s.say(o.ID, Quarantined, "admitted-otherwise", admit(o.ID), "attempt %d admitted it with firmware %s, but it reads %s", i.Number, i.To, o.Content)
	case replaced != "":
		s.say(o.ID, Quarantined, "swapped", admit(o.ID), "it is at %s in the place of %s and was never admitted", o.Place, replaced)
	default:
		s.say(o.ID, Quarantined, "unknown", admit(o.ID), "it was never admitted on this box")
	}
}

// admit is the command that admits a device; it takes effect at the next boot.
func admit(id string) string { return "ratchetctl hw admit " + id }

func (s *settling) say(id string, d Decision, code, next, reason string, args ...any) {
	s.verdicts = append(s.verdicts, Device{ID: id, Place: s.where[id].Place, Kind: s.where[id].Kind, Verdict: Verdict{Decision: d, Code: code, Reason: fmt.Sprintf(reason, args...), Next: next}})
}

// recoverDevice is the command that brings a device back to a firmware that is known.
func recoverDevice(id string) string { return "ratchetctl firmware recover " + id }
