package vault

import (
	"errors"
	"fmt"

	"github.com/google/uuid"

	"github.com/ratchetos/ratchet/boot/luks"
)

// Chip is what the vault needs of the TPM; package boot implements it over a counter.Chip.
type Chip interface {
	// Recall gives S.
	Recall() ([]byte, error)
	// Keep takes S and authorises core's key to raise V. The TPM knows the recovery key.
	Keep(secret, coreKey []byte) error
}

// ErrOtherKey says that a volume or secret is of another recovery key.
var ErrOtherKey = errors.New("it belongs to another recovery key")

// Opened are the open volumes of a box.
type Opened struct {
	CoreKey     []byte
	State, Data Mapping
	// DataErr says why DATA is not open; the box can run without it.
	DataErr error
}

// ErrNoData is DataErr of a disk without a DATA partition.
var ErrNoData = errors.New("the disk has no DATA partition")

// Open opens both volumes with the TPM's secret. data is nil when the disk has no such partition. An
// error means that STATE is shut; then DATA stays shut too.
func Open(chip Chip, state Volume, data *Volume) (Opened, error) {
	raw, err := chip.Recall()
	if err != nil {
		return Opened{}, err
	}
	if len(raw) != len(Secret{}) {
		return Opened{}, fmt.Errorf("open volumes: a secret of %d bytes", len(raw))
	}
	return open(Secret(raw), state, data)
}

func open(s Secret, state Volume, data *Volume) (o Opened, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		if o.DataErr = ErrNoData; data != nil {
			o.Data, o.DataErr = data.open(s)
		}
	}()
	o.State, err = state.open(s)
	<-done
	if err == nil {
		o.CoreKey, err = s.CoreKey()
	}
	if err != nil {
		return Opened{}, err
	}
	return o, nil
}

// Bind makes this TPM open both volumes, with the recovery key in its canonical form. A volume that is not
// there is made; one that another recovery key belongs to is replaced when fresh says that the box has
// nothing to lose, and is an error otherwise.
func Bind(chip Chip, recovery []byte, fresh bool, state Volume, data *Volume) (Opened, error) {
	if len(recovery) == 0 {
		return Opened{}, errors.New("bind volumes: no recovery key")
	}
	volumes := []Volume{state}
	if data != nil {
		volumes = append(volumes, *data)
	}
	s, err := secretOf(volumes, recovery)
	if err != nil {
		return Opened{}, err
	}
	core, err := s.CoreKey()
	if err != nil {
		return Opened{}, err
	}
	if err := chip.Keep(s[:], core); err != nil {
		return Opened{}, err
	}
	for _, v := range volumes {
		if err := v.bind(s, recovery, fresh); err != nil {
			return Opened{}, err
		}
	}
	return open(s, state, data)
}

// secretOf is the S of the first volume that the recovery key belongs to, or a new one.
func secretOf(volumes []Volume, recovery []byte) (Secret, error) {
	for _, v := range volumes {
		if _, t, err := v.header(); err == nil {
			if s, err := unwrap(t.Recovery, recovery); err == nil {
				return s, nil
			}
		}
	}
	return newSecret()
}

// bind makes S open the volume, or makes the volume.
func (v Volume) bind(s Secret, recovery []byte, fresh bool) error {
	h, t, err := v.header()
	if errors.Is(err, luks.ErrNoHeader) {
		return v.format(s, recovery)
	}
	if err != nil && !fresh {
		return err
	}
	var key []byte
	if err == nil {
		key, err = h.Unlock(v, recovery)
	}
	if err != nil {
		if fresh {
			return v.format(s, recovery)
		}
		return fmt.Errorf("%s: %w (%w)", v.Name, ErrOtherKey, err)
	}
	p, err := s.passphrase(h.UUID)
	if err != nil {
		return err
	}
	if _, err := h.Unlock(v, p); err == nil {
		return nil
	}
	if t.Recovery, err = s.wrap(recovery); err != nil {
		return err
	}
	if err := h.Replace(v, key, p, t.luks()); err != nil {
		return fmt.Errorf("%s: %w", v.Name, err)
	}
	return nil
}

func (v Volume) format(s Secret, recovery []byte) error {
	id, err := uuid.NewRandom()
	if err != nil {
		return fmt.Errorf("format %s: %w", v.Name, err)
	}
	p, err := s.passphrase(id.String())
	if err != nil {
		return err
	}
	wrapped, err := s.wrap(recovery)
	if err != nil {
		return err
	}
	_, _, err = luks.Format(v, luks.Options{
		UUID: id.String(), Label: v.Name, Subsystem: "ratchet",
		Passphrase: p, Recovery: recovery, Token: token{Recovery: wrapped}.luks(),
	})
	if err != nil {
		return fmt.Errorf("format %s: %w", v.Name, err)
	}
	return nil
}

// Check says whether a recovery key opens STATE, or DATA where STATE has no header. It changes nothing.
// The error wraps luks.ErrPassphrase or luks.ErrNoHeader.
func Check(recovery []byte, state Volume, data *Volume) error {
	h, _, err := state.header()
	v := state
	if errors.Is(err, luks.ErrNoHeader) && data != nil {
		v = *data
		h, _, err = v.header()
	}
	if err == nil {
		_, err = h.Unlock(v, recovery)
	}
	return err
}
