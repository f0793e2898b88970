package verdict

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"

	"github.com/ratchetos/ratchet/boot/ledger"
)

// world is a box as facts: a TPM and a LEDGER that the script moves.
type world struct {
	t *testing.T
	f Facts
	j Judgement
}

const srk = "\x00\x0bstorage root key"

func digest(word string) ledger.Digest {
	if word == "-" {
		return ledger.Digest{}
	}
	return ledger.Sum([]byte(word))
}

// clean is a box at counter 3 with configuration A in slot 0 and one NIC and one disk.
func clean(t *testing.T) *world {
	w := &world{t: t}
	c := &ledger.Contents{Ring: ledger.Ring{Intents: map[uint64]ledger.Intent{}, Digests: map[uint64]ledger.Digest{}}}
	for i := range c.Slots {
		c.Slots[i].Err = ledger.ErrEmpty
	}
	c.Configs = [2]ledger.ConfigSlot{{Digest: digest("A")}, {Err: ledger.ErrEmpty}}
	w.f = Facts{Image: "1.0", TPM: TPMFacts{
		Health: Healthy, SRK: srk, C: IndexWritten, E: IndexWritten, J: IndexWritten, V: IndexWritten,
		Counter: 3, Journal: digest("journal"), Policy: digest("policy 1.0"), FoundPolicy: digest("policy 1.0"),
	}, Ledger: LedgerFacts{Health: Healthy, Contents: c}}
	for seq := uint64(2); seq <= 3; seq++ {
		w.store(&ledger.Ledger{
			Sequence: seq, Counter: seq, Journal: w.f.TPM.Journal,
			Box:    ledger.Box{SRK: srk, Policy: w.f.TPM.Policy, Image: "1.0"},
			Config: ledger.Config{Now: digest("A")},
			Devices: []ledger.Device{
				{ID: "mac:1", Place: "pci:3", Kind: "nic", Content: ledger.Content{Strength: ledger.StrengthVersion, Version: "10"}},
				{ID: "serial:d", Place: "pci:4", Kind: "disk", Serial: "d", Content: ledger.Content{Strength: ledger.StrengthNone}},
			},
		}, true)
	}
	return w
}

// store puts a ledger into its slot, and its digest into E unless the power fails before.
func (w *world) store(l *ledger.Ledger, writeE bool) {
	_, d, err := l.Encode()
	if err != nil {
		w.t.Fatal(err)
	}
	w.f.Ledger.Contents.Slots[l.Sequence%2] = ledger.Slot{Ledger: l, Digest: d}
	if writeE {
		w.f.TPM.Expected, w.f.TPM.ExpectedLedger = l.Counter, d
	}
}

// approval is that of the running image: a security version, "input", or what is wrong with it.
func (w *world) approval(words []string) {
	a := &Approval{}
	w.f.Approval = a
	n, err := strconv.ParseUint(words[0], 10, 6)
	switch {
	case err == nil:
		a.Version = uint(n)
	case words[0] == "input":
		a.Input = true
	default:
		a.Problem = strings.Join(words, " ")
	}
}

func content(word string) ledger.Content {
	switch {
	case strings.Contains(word, "/"):
		return imageContent(word)
	case word == "absent":
		return ledger.Content{}
	case word == "none":
		return ledger.Content{Strength: ledger.StrengthNone}
	case strings.HasPrefix(word, "v"):
		return ledger.Content{Strength: ledger.StrengthVersion, Version: word[1:]}
	}
	return ledger.OfDigest(digest(word))
}

// attempt is what core does at run time; it stops after the named step.
func (w *world) attempt(target, from, to, until string) {
	t, ring := &w.f.TPM, &w.f.Ledger.Contents.Ring
	i := ledger.Intent{Number: t.Counter + 1, Target: target, From: content(from), To: content(to)}
	_, d, err := i.Encode()
	if err != nil {
		w.t.Fatal(err)
	}
	ring.Intents[i.Number], ring.Digests[i.Number] = i, d
	if until == "intent" {
		return
	}
	t.Journal = ledger.Chain(t.Journal, d)
	if until == "extend" {
		return
	}
	t.Counter++
}

// configs names what the two slots hold: a word, "-" for zeros, "torn" for a cut write.
func (w *world) configs(words []string) {
	for i, word := range words {
		switch word {
		case "-":
			w.f.Ledger.Contents.Configs[i] = ledger.ConfigSlot{Err: ledger.ErrEmpty}
		case "torn":
			w.f.Ledger.Contents.Configs[i] = ledger.ConfigSlot{Err: ledger.ErrCorrupt}
		default:
			w.f.Ledger.Contents.Configs[i] = ledger.ConfigSlot{Digest: digest(word)}
		}
	}
}

// factory empties the disk.
func (w *world) factory() {
	for i := range w.f.Ledger.Contents.Slots {
		w.f.Ledger.Contents.Slots[i] = ledger.Slot{Err: ledger.ErrEmpty}
	}
	clear(w.f.Ledger.Contents.Ring.Intents)
}

// change carries out one line of a script.
func (w *world) change(line string) {
	word := strings.Fields(line)
	number := func(i int) uint64 {
		n, err := strconv.ParseUint(word[i], 10, 64)
		if err != nil {
			w.t.Fatalf("%s: %v", line, err)
		}
		return n
	}
	t, c := &w.f.TPM, w.f.Ledger.Contents
	switch word[0] {
	case "development":
		w.f.Development = true
	case "tpm-optional":
		w.f.TPMOptional = true
	case "tpm":
		t.Health, t.Detail = Health(word[1]), strings.Join(word[2:], " ")
		if t.Health == TPMUnowned {
			t.C, t.E, t.J, t.V = IndexAbsent, IndexAbsent, IndexAbsent, IndexAbsent
		}
	case "taken":
		t.Taken = strings.Join(word[1:], " ")
	case "medium":
		w.f.Ledger = LedgerFacts{Health: Health(word[1]), Detail: strings.Join(word[2:], " ")}
	case "index":
		*map[string]*IndexState{"C": &t.C, "E": &t.E, "J": &t.J, "V": &t.V}[word[1]] = IndexState(word[2])
	case "counter":
		t.Counter = number(1)
	case "srk":
		t.SRK = word[1]
	case "image":
		w.f.Image, t.E, t.Policy = word[1], IndexForeign, digest("policy "+word[1])
	case "secure-boot":
		t.E, t.Policy, t.PCR7 = IndexForeign, digest("policy "+word[1]), digest(word[1])
	case "floor":
		t.Floor = uint(number(1))
	case "approval":
		w.approval(word[1:])
	case "factory":
		w.factory()
	case "slot":
		c.Slots[number(1)] = ledger.Slot{Err: map[string]error{"corrupt": ledger.ErrCorrupt, "newer": ledger.ErrNewer, "empty": ledger.ErrEmpty}[word[2]]}
	case "torn-close": // a boot that wrote its slot and lost power before E
		l := newest(c).Clone()
		l.Sequence, l.Counter, l.Journal = l.Sequence+1, t.Counter, t.Journal
		w.store(l, false)
	case "attempt":
		w.attempt(word[1], word[2], word[3], strings.Join(word[4:], ""))
	case "attempts":
		for range number(1) {
			w.attempt("config", "A", "A", "")
		}
	case "drop":
		delete(c.Ring.Intents, number(1))
	case "swap":
		a, b := number(1), number(2)
		c.Ring.Digests[a], c.Ring.Digests[b] = c.Ring.Digests[b], c.Ring.Digests[a]
	case "forge":
		c.Ring.Digests[number(1)] = digest("forged")
	case "configs":
		w.configs(word[1:])
	case "images":
		w.ledgerImages(word[1:])
	case "running":
		w.f.Slot = word[1]
	default:
		w.t.Fatalf("unknown line %q", line)
	}
}

func (w *world) String() string {
	var b strings.Builder
	j := w.j
	fmt.Fprintf(&b, "%s %s: %s\n", j.Decision, j.Code, j.Reason)
	if j.Next != "" {
		fmt.Fprintf(&b, "next: %s\n", j.Next)
	}
	if j.Action != None {
		fmt.Fprintf(&b, "action: %s\n", j.Action)
	}
	if j.Ahead {
		fmt.Fprintf(&b, "journal is ahead\n")
	}
	if j.Released() {
		fmt.Fprintf(&b, "config: %s in slot %d\n", name(j.Config.Now), j.ConfigSlot)
	}
	return b.String()
}

func name(d ledger.Digest) string {
	for _, w := range []string{"-", "A", "B", "C"} {
		if digest(w) == d {
			return w
		}
	}
	return d.Short()
}

// observed reads lines of "id place content [known-good | why it cannot be read]".
func observed(input string) (seen []Observed) {
	for _, line := range strings.Split(strings.TrimSpace(input), "\n") {
		if f := strings.Fields(line); len(f) > 0 {
			o := Observed{ID: f[0], Place: f[1], Kind: "nic", Content: content(f[2])}
			if o.Err = strings.Join(f[3:], " "); o.Err == "known-good" {
				o.Err, o.KnownGood = "", true
			}
			seen = append(seen, o)
		}
	}
	return seen
}

// returned is what core says of devices that show up while the box runs.
func (w *world) returned(input string) string {
	var b strings.Builder
	for _, o := range observed(input) {
		v := Returned(w.j, o)
		fmt.Fprintf(&b, "%s: %s %s: %s\n", o.ID, v.Decision, v.Code, v.Reason)
		if v.Next != "" {
			fmt.Fprintf(&b, "  next: %s\n", v.Next)
		}
	}
	return b.String()
}

func (w *world) settle(input string) string {
	seen := observed(input)
	var b strings.Builder
	// Order of discovery must not matter.
	o, r := Settle(w.f, w.j, seen), seen
	slices.Reverse(r)
	if again := Settle(w.f, w.j, r); fmt.Sprint(again.Devices) != fmt.Sprint(o.Devices) {
		w.t.Errorf("verdicts depend on the order of discovery:\n%v\n%v", o.Devices, again.Devices)
	}
	for _, d := range o.Devices {
		fmt.Fprintf(&b, "%s: %s %s: %s\n", d.ID, d.Decision, d.Code, d.Reason)
		if d.Next != "" {
			fmt.Fprintf(&b, "  next: %s\n", d.Next)
		}
	}
	if o.Next == nil {
		return b.String() + "ledger: unchanged\n"
	}
	fmt.Fprintf(&b, "ledger %d: counter %d, image %s, config %s (before %s)\n", o.Next.Sequence, o.Next.Counter, o.Next.Box.Image, name(o.Next.Config.Now), name(o.Next.Config.Before))
	for _, d := range o.Next.Devices {
		fmt.Fprintf(&b, "  %s at %s: %s\n", d.ID, d.Place, d.Content)
	}
	return b.String()
}

func TestVerdicts(t *testing.T) {
	codes := map[string]bool{}
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		w := clean(t)
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			switch d.Cmd {
			case "box": // a clean box, and what happened to it
				w = clean(t)
				for _, line := range strings.Split(strings.TrimSpace(d.Input), "\n") {
					if strings.TrimSpace(line) != "" {
						w.change(line)
					}
				}
				w.j = Judge(w.f)
			case "confirm":
				w.j = Confirmed(w.f)
			case "validate":
				w.j = Validated(w.f)
			case "accept":
				w.j = Accepted(w.f)
			case "devices":
				return w.settle(d.Input)
			case "images":
				return w.images(d.Input)
			case "returned": // while the box runs
				return w.returned(d.Input)
			default:
				d.Fatalf(t, "unknown command %s", d.Cmd)
			}
			codes[w.j.Code] = true
			return w.String()
		})
	})
	// Each code that doc.go promises is reached by a script.
	for _, c := range strings.Fields("clean closing provisioned image-changed tpm-unused unprovisioned tpm-owned tpm-absent tpm-lockout tpm-forged tpm-name tpm-error tpm-cleared tpm-not-reset tpm-rolled-back srk-differs counter-missing expected-missing counter-moved intent-missing intent-unchained too-many-attempts ledger-missing ledger-corrupt ledger-newer ledger-factory ledger-differs image-differs image-changed-open image-unsigned image-input image-revoked secure-boot-changed config-unreadable validated accepted") {
		if !codes[c] {
			t.Errorf("no script reaches %q; reached: %v", c, slices.Sorted(maps.Keys(codes)))
		}
	}
}
