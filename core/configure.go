package core

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/google/renameio/v2"

	"github.com/ratchetos/ratchet/core/api"
	"github.com/ratchetos/ratchet/core/api/apipb"
	"github.com/ratchetos/ratchet/core/config"
	"github.com/ratchetos/ratchet/core/host"
	"github.com/ratchetos/ratchet/core/plugin"
	"github.com/ratchetos/ratchet/core/plugin/pluginpb"
	"github.com/ratchetos/ratchet/hw"
)

// Where a configuration that waits for its confirmation survives a reboot.
const (
	confirmSpace = "config"
	confirmKey   = "revert-to"
)

// applyLimit is more than the limits of all plugins together: one that the kernel keeps for ever, because its disk is dead,
// does not keep the next configuration from being applied.
const applyLimit = 10 * time.Minute

// pendingConfirm is a configuration that goes away unless somebody confirms it.
type pendingConfirm struct {
	revertTo []byte
	at       time.Time
	timer    *time.Timer
}

// readConfig loads the configuration at start. One with errors does not keep the box down: what can be read of it
// runs, and the errors are on the console.
func (a *appliance) readConfig(ctx context.Context) {
	a.yaml, a.name = a.handoff.config, "ledger"
	if a.report == nil {
		a.name = a.file
		data, err := os.ReadFile(a.file)
		if err != nil {
			a.complain("read configuration", err)
		}
		a.yaml = data
	}
	if kept := a.unconfirmed(ctx); kept != nil {
		a.say("configuration was not confirmed before the restart: going back to the one before")
		if _, err := a.record(ctx, kept, "confirm timeout"); err != nil {
			a.complain("go back to the configuration before", err)
		} else {
			a.yaml = kept
			a.mustForgetUnconfirmed(ctx)
		}
	}
	c, _, _ := config.Parse(a.name, a.yaml)
	if c == nil {
		c = new(config.Config)
		c.SetDefaults()
	}
	if c.Version == 0 && a.yaml != nil { // an isolated box is handed none
		a.say("the configuration cannot be read: no plugin is started; put it right with `ratchetctl config apply FILE`")
	}
	a.mu.Lock()
	a.config = c
	a.mu.Unlock()
}

// reportConfig says what is wrong with the configuration that the box starts with. The plugins do not wait for it:
// each is asked about its section by the host before it starts.
func (a *appliance) reportConfig(ctx context.Context) {
	if _, _, found := config.Load(ctx, a.name, a.yaml, a.checker()); len(found) > 0 {
		fmt.Fprint(os.Stderr, found.Detail())
	}
}

// checker holds a document against the plugins and the hardware of this machine.
func (a *appliance) checker() config.Checker {
	k := a.builtin
	devices, err := a.devices.Devices()
	if err != nil {
		return k // then selectors are only checked for their form
	}
	k.Devices = make([]hw.Device, len(devices))
	for i, d := range devices {
		k.Devices[i] = d.Device
	}
	return k
}

// companion is the part of a plugin that needs other privileges; see plugin.proto.
type companion struct {
	name, of string
	feature  plugin.Feature
}

// sections are the enabled plugins' parts. A companion has that of its plugin, if it finds something to do in it.
func (a *appliance) sections(ctx context.Context, c *config.Config) map[string]host.Section {
	out := make(map[string]host.Section)
	for name, p := range c.Plugins {
		if p.Enabled {
			out[name] = host.Section{JSON: p.Section, Grant: host.Grant{Memory: uint64(p.Grant.Memory), PIDs: p.Grant.PIDs}}
		}
	}
	for _, k := range a.companions {
		s, enabled := out[k.of]
		if !enabled {
			continue
		}
		if v := k.feature.Validate(ctx, plugin.Section{JSON: s.JSON}); len(v.Wants) > 0 {
			out[k.name] = host.Section{JSON: s.JSON} // the grant is for the plugin, which does the work
		}
	}
	return out
}

// claimedNICs are the NICs that plugins want, so that "auto" leaves them alone.
func (a *appliance) claimedNICs(ctx context.Context, c *config.Config) []string {
	var out []string
	k := a.builtin
	for name, p := range c.Plugins {
		if !p.Enabled || !slices.Contains(k.Plugins, name) {
			continue
		}
		v, err := k.Validate(ctx, name, pluginSection(p))
		if err != nil {
			continue
		}
		for _, w := range v.Wants {
			if w.GetKind() != pluginpb.Kind_NIC {
				continue
			}
			if d, err := a.devices.Resolve(w.GetSelector()); err == nil {
				out = append(out, d.ID)
			}
		}
	}
	return out
}

// check holds a document against this machine, and what is wrong with its hardware against what was before.
func (a *appliance) check(ctx context.Context, name string, yaml []byte) (*config.Config, config.Diagnostics) {
	return a.checkBy(ctx, a.checker(), name, yaml)
}

// asking is a checker that asks the plugins that serve: each knows what it does not take just now, as less than a volume
// has. That is no matter of a document, and one that is only checked may be meant for after.
func (a *appliance) asking() config.Checker {
	k := a.checker()
	builtin := k.Validate
	k.Validate = func(ctx context.Context, name string, s plugin.Section) (plugin.Validation, error) {
		if v, ok := a.host.Ask(ctx, name, host.Section{JSON: s.JSON}); ok {
			return v, nil
		}
		return builtin(ctx, name, s)
	}
	return k
}

func (a *appliance) checkBy(ctx context.Context, k config.Checker, name string, yaml []byte) (*config.Config, config.Diagnostics) {
	c, _, found := config.Load(ctx, name, yaml, k)
	if !found.Failed() {
		return c, found
	}
	a.mu.Lock()
	runs := a.yaml
	a.mu.Unlock()
	_, _, before := config.Load(ctx, a.name, runs, k)
	return c, found.Known(before)
}

// apply checks a configuration, counts the attempt, and brings the box to it.
func (a *appliance) apply(ctx context.Context, req *apipb.ApplyConfigRequest) (*apipb.ApplyConfigReply, error) {
	a.applying.Lock()
	defer a.applying.Unlock()
	name := req.GetName()
	if name == "" {
		name = "appliance.yaml"
	}
	next, found := a.checkBy(ctx, a.asking(), name, req.GetYaml())
	reply := &apipb.ApplyConfigReply{Diagnostics: api.Diagnostics(found)}
	if found.Failed() || next == nil {
		return reply, nil
	}
	a.mu.Lock()
	before, old := a.config, a.yaml
	a.mu.Unlock()
	if base := req.GetBase(); base != "" && base != digest(old) {
		return nil, fmt.Errorf("%w: the configuration was changed meanwhile; look at it and try again", api.ErrPrecondition)
	}
	reply.Changed = config.Diff(before, next)
	// From here on the change is made as a whole, whoever still waits for it. One that had to wait for another, for minutes
	// perhaps, and was given up meanwhile is not begun.
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("nothing was changed: %w", err)
	}
	ctx = context.WithoutCancel(ctx)
	confirm := time.Duration(req.GetConfirmMs()) * time.Millisecond
	if confirm > 0 {
		// Durable first: a power cut after the change must find the way back.
		if err := a.rememberUnconfirmed(ctx, old); err != nil {
			return nil, err
		}
	}
	counter, err := a.record(ctx, req.GetYaml(), api.Caller(ctx).Name)
	if err != nil {
		if !a.waiting() { // the way back behind an earlier document stays
			a.mustForgetUnconfirmed(ctx)
		}
		return nil, err
	}
	reply.Counter = counter
	reply.RebootNeeded, err = a.bringTo(ctx, next, req.GetYaml(), reply.Changed)
	if confirm > 0 {
		a.await(old, confirm) // also when only part of it could be applied
	} else if settleErr := a.settle(ctx); settleErr != nil { // without confirm it is meant to stay, whatever waited before
		err = errors.Join(err, fmt.Errorf("it goes back to the one before at the latest with the next start: %w", settleErr))
	}
	if err != nil {
		return nil, fmt.Errorf("the configuration is stored and partly applied: %w", err)
	}
	reply.Applied = true
	return reply, nil
}

// waiting says whether a configuration waits for its confirmation.
func (a *appliance) waiting() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.pending != nil
}

// settle takes the way back away, also one that an earlier run left. When it cannot, everything stays as it is.
func (a *appliance) settle(ctx context.Context) error {
	if err := a.forgetUnconfirmed(ctx); err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.pending != nil {
		a.pending.timer.Stop()
		a.pending = nil
	}
	return nil
}

// record makes yaml the configuration of the next start: an attempt on a box with a counter, the file on a workstation.
func (a *appliance) record(ctx context.Context, yaml []byte, signer string) (counter uint64, err error) {
	switch {
	case a.attempts != nil:
		at, err := a.attempts.ApplyConfig(ctx, yaml, signer)
		return at.Number, err
	case a.report != nil:
		return 0, fmt.Errorf("%w: the box has no counter to record the change in: %s", api.ErrNotReleased, a.report.Box.Reason)
	}
	if err := renameio.WriteFile(a.file, yaml, 0o600); err != nil {
		return 0, fmt.Errorf("write configuration: %w", err)
	}
	return 0, nil
}

// bringTo makes the running box match; it touches only the sections that changed. ctx must not end: what was left undone
// would stay so.
func (a *appliance) bringTo(ctx context.Context, c *config.Config, yaml []byte, changed []string) (reboot bool, err error) {
	a.mu.Lock()
	a.config, a.yaml = c, yaml
	a.applied++
	a.mu.Unlock()
	if a.released() && (slices.Contains(changed, "network") || slices.Contains(changed, "hostname") || slices.Contains(changed, "time")) {
		a.bringUpNetwork(ctx, c)
	}
	if a.update != nil {
		a.update.SetTimes(updateTimes(c))
	}
	// The listener that this very call came over stays as it is.
	reboot = slices.Contains(changed, "api") || slices.Contains(changed, "tpm")
	ctx, cancel := context.WithTimeout(ctx, applyLimit)
	defer cancel()
	return reboot, a.host.Apply(ctx, a.sections(ctx, c))
}

// await goes back to the old configuration unless confirmed in time.
func (a *appliance) await(old []byte, d time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.pending != nil {
		a.pending.timer.Stop()
		old = a.pending.revertTo // the last one that somebody confirmed
	}
	p := &pendingConfirm{revertTo: old, at: time.Now().Add(d)}
	p.timer = time.AfterFunc(d, func() { a.revert(p) })
	a.pending = p
}

// revert goes back, unless p was confirmed meanwhile, or another document was applied that has a time of its own.
func (a *appliance) revert(p *pendingConfirm) {
	a.applying.Lock()
	defer a.applying.Unlock()
	a.mu.Lock()
	before, waits := a.config, a.pending == p
	if waits {
		a.pending = nil
	}
	a.mu.Unlock()
	if !waits {
		return
	}
	ctx := context.Background()
	a.say("configuration was not confirmed: going back to the one before")
	c, _, _ := config.Load(ctx, a.name, p.revertTo, a.checker())
	if c == nil {
		c = new(config.Config)
		c.SetDefaults()
	}
	_, err := a.record(ctx, p.revertTo, "confirm timeout")
	if err == nil {
		a.mustForgetUnconfirmed(ctx)
		_, err = a.bringTo(ctx, c, p.revertTo, config.Diff(before, c))
	}
	if err != nil {
		a.complain("go back to the configuration before", err)
	}
}

// confirm keeps what was applied.
func (a *appliance) confirm(ctx context.Context) error {
	a.applying.Lock()
	defer a.applying.Unlock()
	if !a.waiting() {
		return fmt.Errorf("%w: no configuration waits for a confirmation", api.ErrPrecondition)
	}
	if err := a.settle(ctx); err != nil {
		return fmt.Errorf("the configuration still goes back to the one before: %w", err)
	}
	return nil
}

func (a *appliance) rememberUnconfirmed(ctx context.Context, old []byte) error {
	if a.store == nil {
		return nil
	}
	if kept, found, err := a.store.Get(ctx, confirmSpace, confirmKey); err == nil && found {
		old = kept
	}
	return a.store.Put(ctx, confirmSpace, confirmKey, old)
}

func (a *appliance) unconfirmed(ctx context.Context) []byte {
	if a.store == nil {
		return nil
	}
	kept, found, err := a.store.Get(ctx, confirmSpace, confirmKey)
	if err != nil {
		a.complain("look for an unconfirmed configuration", err)
	}
	if !found || err != nil {
		return nil
	}
	return kept
}

func (a *appliance) forgetUnconfirmed(ctx context.Context) error {
	if a.store == nil {
		return nil
	}
	if err := a.store.Delete(ctx, confirmSpace, confirmKey); err != nil {
		return fmt.Errorf("note that nothing is to be confirmed: %w", err)
	}
	return nil
}

// mustForgetUnconfirmed is for a way back that leads to what is in force anyway.
func (a *appliance) mustForgetUnconfirmed(ctx context.Context) {
	if err := a.forgetUnconfirmed(ctx); err != nil {
		a.complain("configuration", err)
	}
}

func digest(yaml []byte) string {
	sum := sha256.Sum256(yaml)
	return hex.EncodeToString(sum[:])
}
