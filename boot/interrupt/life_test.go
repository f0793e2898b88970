package interrupt

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/ratchetos/ratchet/boot/esp"
	"github.com/ratchetos/ratchet/boot/ledger"
	"github.com/ratchetos/ratchet/boot/slot"
	"github.com/ratchetos/ratchet/boot/verdict"
)

const (
	// maxBoots may pass from the last interruption to a healthy box: a count that stands at its limit stops once in
	// the recovery console, and then each slot has its tries.
	maxBoots = 2 * slot.RecoverAt
	// nested bounds the interruptions of one recovery.
	nested = 9
	// maxSecurity is what V can count to.
	maxSecurity = 63
)

// tally is what a soak reports.
type tally struct {
	tried, lives, boots, console, most int
	before                             map[string]int // effects that the power failed before
	ops                                map[string]int // what was under way
	lost                               []string
}

func (s *tally) add(o tally) {
	s.tried, s.lives, s.boots, s.console, s.most = s.tried+o.tried, s.lives+o.lives, s.boots+o.boots, s.console+o.console, max(s.most, o.most)
	for k, n := range o.before {
		s.before[k] += n
	}
	for k, n := range o.ops {
		s.ops[k] += n
	}
	s.lost = append(s.lost, o.lost...)
}

func newTally() tally { return tally{before: map[string]int{}, ops: map[string]int{}} }

// life is a box, and what it may be after the next interruption.
type life struct {
	*box
	seed    uint64
	tally   tally
	effects map[string]int // of each operation at most, to place cuts
	op      string

	// What the box may be: it ran was, and may run any of may. In the NIC and as configuration either of two.
	was            *image
	may            map[*image]string
	configs, flash [2]int
	serial         int
	security       uint
}

// newLife provisions a box, with interruptions like any other operation.
func newLife(t *testing.T, seed uint64, m mutant) *life {
	l := &life{box: newBox(t, seed, m), seed: seed, tally: newTally(), effects: map[string]int{"provision": 30}, security: 1}
	l.tally.lives = 1
	_, err := l.parts["flash"].WriteAt(firmware(0), 0)
	must(t, err)
	l.disk.flush()
	l.may = map[*image]string{l.holds("A"): "factory"}
	l.run("provision", nil)
	return l
}

// lose ends the life.
func (l *life) lose(format string, args ...any) {
	if len(l.tally.lost) > 0 {
		return // the first reason is the one
	}
	text := fmt.Sprintf("seed %d, interruption %d, in %s: ", l.seed, l.tally.tried, l.op) + fmt.Sprintf(format, args...)
	l.tally.lost = append(l.tally.lost, text+"\n\t"+strings.Join(l.lastWords(), "\n\t"))
}

func (l *life) lost() bool { return len(l.tally.lost) > 0 }

// run arms the switch, does one thing and brings the box up again.
func (l *life) run(op string, do func(c *core) error) {
	l.op, l.switched = op, 0
	l.tally.ops[op]++
	l.boots = 0
	limit := max(l.effects[op], 20)
	l.power.arm(l.rng.IntN(limit + limit/4))
	l.say("== %s", op)
	if do != nil {
		if err := do(l.core); err != nil {
			l.say("%s: %v", op, err)
		}
	}
	cuts := 0
	for {
		healthy := l.up()
		if off, at := l.power.cut(); off && at != "" {
			l.failure(at)
			if cuts++; cuts < nested && l.rng.IntN(3) > 0 {
				l.power.arm(l.rng.IntN(10))
			} else {
				l.power.arm(-1)
			}
			continue
		}
		if l.lost() {
			return
		}
		if healthy {
			break
		}
	}
	if cuts == 0 {
		l.effects[op] = max(l.effects[op], l.power.effects())
	}
	l.power.arm(-1) // what was not reached does not count
	l.check()
}

// failure is the end of the power.
func (l *life) failure(at string) {
	l.tally.tried++
	l.tally.before[at]++
	l.say("-- the power failed before: %s", at)
	l.ends()
	l.boots = 0
}

// ends is the end of a run of the machine.
func (l *life) ends() {
	l.stop()
	l.disk.fail(l.rng)
	l.spoil()
}

// up switches on until the box is healthy; it returns early when the power fails.
func (l *life) up() (healthy bool) {
	for {
		if l.core != nil && l.core.live(10*time.Second) {
			return true
		}
		if l.core != nil && l.core.live(2*times.Deadline) {
			return true
		}
		if off, at := l.power.cut(); off && at != "" {
			return false
		}
		if l.core != nil && !l.core.restart.Load() {
			if off, _ := l.power.cut(); !off {
				l.lose("it runs, is not healthy, and nothing is done about it")
				return false
			}
		}
		if l.core != nil || l.boots > 0 {
			l.restarted()
		}
		if l.boots >= maxBoots {
			l.lose("%d boots and no end", l.boots)
			return false
		}
		consoles := l.console
		l.on()
		l.tally.boots++
		l.tally.most = max(l.tally.most, l.boots)
		l.tally.console += l.console - consoles
		if off, _ := l.power.cut(); !off && l.dead != "" {
			l.lose("%s", l.dead)
			return false
		}
		l.dead = ""
	}
}

// restarted is a reset: what is in the disk's cache stays there. An image that killed the power gets it back.
func (l *life) restarted() {
	off, at := l.power.cut()
	l.stop()
	if off && at == "" {
		l.power.resume()
	}
}

// check holds a healthy box to what it promises.
func (l *life) check() {
	i := l.running
	if l.may[i] == "" && l.switched == 0 {
		l.lose("it runs image %s, and may run %v", i.version, l.names())
	}
	// An image that dies at E runs well when there is nothing to close.
	if i.fault == diesInKernel || i.fault == diesInInit || i.fault == unhealthy {
		l.lose("it calls an image healthy that %s", i.fault)
	}
	r := l.report
	if r.Box.Code != "clean" && r.Box.Code != "closing" && l.boots > 0 && l.op != "provision" {
		l.lose("verdict %s: %s", r.Box.Code, r.Box.Reason)
	}
	j, err := l.core.attempts.Judge(context.Background())
	if err != nil || !j.Released() {
		l.lose("the counter is not in order: %s (%v)", j.Reason, err)
		return
	}
	s, err := l.core.update.Status(context.Background())
	if err != nil {
		l.lose("status: %v", err)
		return
	}
	for _, image := range s.Slots {
		l.checkSlot(image.Image, s.Floor)
	}
	if s.First != r.Slot || s.Next != "" || s.Boots != 0 {
		l.lose("slot %s runs, %q is first, %q next, %d boots are counted", r.Slot, s.First, s.Next, s.Boots)
	}
	l.checkConfig()
	l.checkDevice(r.Devices)
	l.was, l.may = i, map[*image]string{i: "it ran before"}
}

func (l *life) names() (out []string) {
	for i, why := range l.may {
		out = append(out, i.version+" ("+why+")")
	}
	return out
}

// checkSlot compares what core says of a slot with the slot.
func (l *life) checkSlot(i verdict.Image, floor uint) {
	content, err := esp.Read(l.parts["ESP-"+i.Slot], espSize)
	switch {
	case i.Code == "slot-changed":
		l.lose("slot %s: %s", i.Slot, i.Reason)
	case i.Decision != verdict.Released && i.Slot == l.report.Slot:
		l.lose("slot %s runs and is bad: %s", i.Slot, i.Reason)
	case i.Decision != verdict.Released:
	case err != nil || ledger.Digest(content.SHA256) != i.Digest:
		l.lose("slot %s counts as %s and holds %x (%v)", i.Slot, i.Digest.Short(), content.SHA256[:6], err)
	case l.signed[i.Digest] == nil:
		l.lose("slot %s counts as good and holds an image of nobody", i.Slot)
	case l.signed[i.Digest].security < floor:
		l.lose("slot %s counts as good, but V asks for %d and it has %d", i.Slot, floor, l.signed[i.Digest].security)
	}
}

func (l *life) checkConfig() {
	yaml, err := l.core.attempts.Config(context.Background())
	for _, n := range l.configs {
		if err == nil && string(yaml) == config(n) {
			l.configs = [2]int{n, n}
			return
		}
	}
	l.lose("configuration %q (%v), want one of %v", yaml, err, l.configs)
}

// checkDevice: firmware that was cut off inside is the one thing that does not mend itself.
func (l *life) checkDevice(devices []verdict.Device) {
	b := make([]byte, flashSize)
	if _, err := l.parts["flash"].ReadAt(b, 0); err != nil {
		l.lose("read the NIC: %v", err)
	}
	whole := false
	for _, n := range l.flash {
		whole = whole || string(b) == string(firmware(n))
	}
	for _, d := range devices {
		switch {
		case d.ID != nicID:
			l.lose("a device %s", d.ID)
		case whole && d.Decision != verdict.Released && !l.flashed:
			l.lose("the NIC holds good firmware and is %s %s: %s", d.Decision, d.Code, d.Reason)
		case !whole && (d.Decision == verdict.Released || d.Code != "attempt-unfinished" && d.Code != "firmware-changed") && !l.flashed:
			l.lose("the NIC holds torn firmware and is %s %s: %s", d.Decision, d.Code, d.Reason)
		}
	}
	if whole {
		l.flash = [2]int{int(b[0]), int(b[0])}
	}
}

// step does something to a stable box.
func (l *life) step() {
	l.serial++
	r := l.rng.IntN(100)
	switch {
	case r < 45:
		l.install(works)
	case r < 60:
		l.install(faults[l.rng.IntN(len(faults))])
	case r < 72:
		l.configs[1] = l.serial
		l.run("config", func(c *core) error {
			_, err := c.attempts.ApplyConfig(context.Background(), []byte(config(l.serial)), "test")
			return err
		})
	case r < 80:
		if other := l.holds(slot.Other(l.report.Slot)); other != nil && other.fault == works {
			l.may[other] = "rolled back to"
			l.run("rollback", func(c *core) error { _, err := c.update.Rollback(context.Background(), true); return err })
		}
	case r < 87:
		l.run("settle", func(c *core) error { c.live(times.Settle + 10*time.Second); return nil })
	case r < 94:
		l.flash[1] = l.serial % 251
		l.run("flash", func(c *core) error { return c.flash(firmware(l.serial % 251)) })
	default:
		l.run("reboot", func(c *core) error { c.update.Ending(); c.restart.Store(true); return nil })
	}
}

func (l *life) install(f fault) {
	if l.security < maxSecurity && l.rng.IntN(4) == 0 {
		l.security++
	}
	i := newImage(l.t, fmt.Sprint(l.serial+1), l.security, f)
	l.sign(i)
	op := "update"
	if f == works {
		l.may[i] = "it is the update"
	} else {
		op += " that " + string(f)
	}
	target := slot.Other(l.report.Slot)
	l.run(op, func(c *core) error { return c.install(i.bundle(l.t, l.rng.IntN(6) == 0), target) })
}
