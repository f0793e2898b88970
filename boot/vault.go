package boot

import (
	"errors"
	"fmt"
	"io"

	"golang.org/x/sys/unix"

	"github.com/ratchetos/ratchet/boot/counter"
	"github.com/ratchetos/ratchet/boot/luks"
	"github.com/ratchetos/ratchet/boot/recovery"
	"github.com/ratchetos/ratchet/boot/vault"
	"github.com/ratchetos/ratchet/boot/verdict"
)

// Volumes is what init needs of the kernel to use encrypted partitions.
type Volumes interface {
	// Open opens a partition for the header of its volume.
	Open(node string) (Partition, error)
	// Map makes the data of a partition a block device of its own and returns its node.
	Map(name, node string, m vault.Mapping) (string, error)
	// Unmap undoes Map.
	Unmap(name string) error
	// Mount gives core the file system on STATE's device, Unmount takes it away again; without one it does nothing.
	Mount(node string) error
	Unmount() error
}

// Partition is an open partition.
type Partition interface {
	luks.Device
	io.Closer
	// Size is in bytes.
	Size() (int64, error)
}

// Names of the mapped devices below /dev/mapper.
const (
	stateName = "ratchet-state"
	dataName  = "ratchet-data"
)

// sealedVault is step g of a check.
type sealedVault struct {
	tried   bool
	opened  vault.Opened
	err     error // why opened is empty
	bound   bool  // with the recovery key, in this boot
	coreKey []byte
	mapped  []string // names
	// state and data are the mapped devices.
	state, data string
	usable      bool // mapped, and STATE is mounted
}

// unseal opens the volumes with the TPM's secret and maps nothing yet. It may run beside what does not
// use the TPM.
func (c *check) unseal() <-chan struct{} {
	done := make(chan struct{})
	if c.vault.tried || !c.j.Released() || c.j.Action == verdict.Provision || c.chip == nil || c.Volumes == nil {
		close(done)
		return done
	}
	c.vault.tried = true
	start := c.Clock()
	go func() {
		defer close(done)
		defer func() { c.timing.Unseal = c.Clock() - start }()
		if p := guarded(func() {
			c.vault.err = c.withVolumes(func(state vault.Volume, data *vault.Volume) (err error) {
				c.vault.opened, err = vault.Open(tpmVault{c, ""}, state, data)
				return err
			})
		}); p != nil {
			c.vault.err = fmt.Errorf("open volumes: %v; this is a bug", p)
		}
	}()
	return done
}

// tryVault opens the volumes before somebody who asked for the recovery console is shown what is wrong.
func (c *check) tryVault() {
	if c.RecoveryAsked == "" {
		return
	}
	<-c.unseal()
	if c.vault.tried && c.vault.err == nil {
		<-c.prepare()
		if c.vault.err = c.useVolumes(); c.vault.err != nil {
			c.shut()
		}
	}
	if c.vault.err != nil && c.Policy.RecoveryKey == "" {
		c.j = verdict.VaultShut(c.vault.err)
	}
}

// createVault gives the TPM a secret, and makes the volumes that it opens where there are none. Provisioning
// calls it before it writes E, so that it is repeated when the power fails.
func (c *check) createVault(recoveryKey string) error {
	if c.Volumes == nil {
		return nil
	}
	return c.bindVault(recoveryKey)
}

// bindVault does what needs the recovery key. A box that has a ledger, whole or accepted, has data to lose.
func (c *check) bindVault(recoveryKey string) error {
	fresh := c.j.Action == verdict.Provision && c.j.Ledger == nil
	err := c.withVolumes(func(state vault.Volume, data *vault.Volume) (err error) {
		c.vault.opened, err = vault.Bind(tpmVault{c, recoveryKey}, counter.CanonicalKey(recoveryKey), fresh, state, data)
		return err
	})
	c.vault.bound, c.vault.err = err == nil, err
	return err
}

// openVault is step g: STATE and DATA become devices. A box that it fails on is isolated.
func (c *check) openVault() {
	if !c.j.Released() || c.Volumes == nil {
		return
	}
	if c.chip == nil { // a development image that goes without
		c.Say("warning: without a TPM there is no STATE and no DATA")
		return
	}
	key := c.ownerKey
	if key == "" {
		key = c.Policy.RecoveryKey // of a development image: it mends itself
	}
	// What its owner accepted, or a development image found under another policy, gets this TPM's secret.
	if !c.vault.bound && key != "" && (c.vault.err != nil || c.j.Adopt) {
		if c.vault.err != nil {
			c.Say("warning: STATE and DATA are bound to this box anew, with the recovery key: %v", c.vault.err)
		}
		_ = c.bindVault(key) // its error is in c.vault
	}
	if c.vault.err == nil {
		c.vault.err = c.useVolumes()
	}
	if c.vault.err == nil {
		c.vault.coreKey = c.vault.opened.CoreKey
		return
	}
	c.shut()
	c.j = verdict.VaultShut(c.vault.err)
	c.config, c.closed = nil, 0
	c.isolateDevices()
}

// useVolumes makes the devices and mounts STATE. A box without its STATE would come up like a new one, whoever spoiled it.
// One whose owner is there and says to take it as it is gets a new file system for what is none any more, and so does one
// with a development image.
func (c *check) useVolumes() error {
	if c.vault.usable {
		return nil
	}
	if err := c.mapVolumes(); err != nil {
		return err
	}
	err := c.Volumes.Mount(c.vault.state)
	if (c.ownerKey != "" || c.Policy.RecoveryKey != "") && noFileSystem(err) {
		c.Say("warning: STATE is made anew, what it held is lost: %v", err)
		if err = c.makeState(c.vault.state, c.vault.opened.State.Size); err == nil {
			err = c.Volumes.Mount(c.vault.state)
		}
	}
	if err != nil {
		return fmt.Errorf("STATE does not mount: %w", err)
	}
	c.vault.usable = true
	return nil
}

// noFileSystem says whether mounting failed because of what is on the device, and not of what the kernel can do or the
// medium gives.
func noFileSystem(err error) bool {
	return errors.Is(err, unix.EUCLEAN) || errors.Is(err, unix.EBADMSG) || errors.Is(err, unix.EINVAL)
}

// mapVolumes makes the devices, with the content that their first users expect. The kernel waits more than
// it works, so both are made at the same time.
func (c *check) mapVolumes() error {
	o := c.vault.opened
	data, dataErr := "", o.DataErr
	done := make(chan any)
	go func() {
		done <- guarded(func() {
			if dataErr == nil {
				data, dataErr = c.mapVolume(partData, dataName, c.disk.Data, o.Data, c.blankData)
			}
		})
	}()
	state, err := c.mapVolume(partState, stateName, c.disk.State, o.State, c.makeState)
	if p := <-done; p != nil {
		panic(p) // on to Check, which isolates
	}
	if state != "" {
		c.vault.mapped = append(c.vault.mapped, stateName)
	}
	if data != "" {
		c.vault.mapped = append(c.vault.mapped, dataName)
	}
	if dataErr != nil && !errors.Is(dataErr, vault.ErrNoData) {
		c.Say("warning: DATA stays shut, nothing can use it: %v", dataErr)
	}
	c.vault.state, c.vault.data = state, data
	return err
}

// mapVolume maps one volume; a new one gets its first content, and a mark once that is whole.
func (c *check) mapVolume(part, name, node string, m vault.Mapping, first func(node string, size int64) error) (string, error) {
	mapped, err := c.Volumes.Map(name, node, m)
	if err != nil || m.Ready {
		return mapped, err
	}
	if err = first(mapped, m.Size); err == nil {
		err = c.withVolume(part, node, vault.Volume.Finish)
	}
	if err != nil {
		return "", fmt.Errorf("prepare %s: %w", part, errors.Join(err, c.Volumes.Unmap(name)))
	}
	return mapped, nil
}

// shutUnreleased is for a box that was isolated after its volumes were opened.
func (c *check) shutUnreleased() {
	if !c.j.Released() {
		c.shut()
	}
}

// shut takes the devices away again.
func (c *check) shut() {
	if c.Volumes != nil {
		if err := c.Volumes.Unmount(); err != nil {
			c.Say("warning: %v", err)
		}
	}
	for _, name := range c.vault.mapped {
		if err := c.Volumes.Unmap(name); err != nil {
			c.Say("warning: %v", err)
		}
	}
	c.vault.mapped, c.vault.coreKey, c.vault.usable = nil, nil, false
	c.vault.state, c.vault.data = "", ""
}

// isolateDevices is for a verdict that changes after the devices had theirs.
func (c *check) isolateDevices() {
	for i := range c.devices {
		c.devices[i].Verdict = verdict.AllIsolated([]string{c.devices[i].ID})[0].Verdict
	}
}

// withVolumes opens both partitions; the disk may have no DATA.
func (c *check) withVolumes(use func(state vault.Volume, data *vault.Volume) error) error {
	if c.disk.State == "" {
		return errors.New("the boot disk has no STATE partition")
	}
	return c.withVolume(partState, c.disk.State, func(state vault.Volume) error {
		if c.disk.Data == "" {
			return use(state, nil)
		}
		return c.withVolume(partData, c.disk.Data, func(data vault.Volume) error { return use(state, &data) })
	})
}

func (c *check) withVolume(name, node string, use func(vault.Volume) error) error {
	p, err := c.Volumes.Open(node)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	size, err := p.Size()
	if err == nil {
		err = use(vault.Volume{Name: name, Device: p, Size: size})
	}
	return errors.Join(err, p.Close())
}

// vaultKnows asks the disk about a recovery key that the TPM cannot check any more.
func (c *check) vaultKnows(key string) error {
	if c.Volumes == nil || c.disk.State == "" {
		return fmt.Errorf("%w; factory-reset makes this a new box", recovery.ErrNoKey)
	}
	err := c.withVolumes(func(state vault.Volume, data *vault.Volume) error {
		return vault.Check(counter.CanonicalKey(key), state, data)
	})
	switch {
	case errors.Is(err, luks.ErrPassphrase):
		return recovery.ErrWrongKey
	case errors.Is(err, luks.ErrNoHeader):
		return fmt.Errorf("%w; factory-reset makes this a new box: %w", recovery.ErrNoKey, err)
	}
	return err
}

// tpmVault is the TPM as the vault sees it.
type tpmVault struct {
	*check
	recoveryKey string
}

var _ vault.Chip = tpmVault{}

// Recall implements vault.Chip.
func (t tpmVault) Recall() ([]byte, error) { return t.chip.Recall(t.box, t.approval) }

// Keep implements vault.Chip.
func (t tpmVault) Keep(secret, coreKey []byte) error {
	if err := t.chip.Keep(t.recoveryKey, t.box, secret); err != nil {
		return err
	}
	return t.chip.RenewK(t.recoveryKey, counter.AuthK(coreKey))
}
