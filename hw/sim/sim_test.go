package sim

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/ratchetos/ratchet/hw/firmware"
	"github.com/ratchetos/ratchet/hw/firmware/firmwaretest"
)

// made formats a device in a file.
func made(t *testing.T, o Options) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "device")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Truncate(o.Size()), Format(f, o), f.Close()); err != nil {
		t.Fatal(err)
	}
	return path
}

func opened(t *testing.T, path, boot string) *Device {
	t.Helper()
	d, err := Open(path, boot)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

func TestConformance(t *testing.T) {
	for name, o := range map[string]Options{
		"at once":       {},
		"at reset":      {AtReset: true},
		"three slots":   {Slots: 3, AtReset: true},
		"one slot":      {Slots: 1},
		"version only":  {Strength: new(firmware.Version)},
		"liar at reset": {Lies: true, AtReset: true},
	} {
		t.Run(name, func(t *testing.T) {
			firmwaretest.Run(t, func(t *testing.T) firmwaretest.Rig {
				path := made(t, o)
				boots := 0
				full := o.withDefaults()
				return firmwaretest.Rig{
					Open: func(t *testing.T) firmware.Firmware {
						d, err := Open(path, fmt.Sprint("boot ", boots))
						if err != nil {
							t.Fatal(err)
						}
						return d
					},
					Reset: func(*testing.T) { boots++ },
					Image: func(version string) []byte { return Image("sim", version, 200_001) },
					Bad:   Image("another", "1.1", 4096), Strength: *full.Strength, Slots: full.Slots,
				}
			})
		})
	}
}

func TestTamper(t *testing.T) {
	for _, lies := range []bool{false, true} {
		path := made(t, Options{Lies: lies})
		before, err := opened(t, path, "1").ReadBack(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		// The same version with one byte changed.
		image := Image("sim", "1.0", 128<<10)
		image[70_000] ^= 1
		if err := opened(t, path, "off").Tamper(0, image); err != nil {
			t.Fatal(err)
		}
		after, err := opened(t, path, "2").ReadBack(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if after.Version != "1.0" || (after.Digest == before.Digest) != lies {
			t.Errorf("lies %t: %v reads back as %v", lies, before, after)
		}
	}
	if err := opened(t, made(t, Options{}), "1").Tamper(2, nil); err == nil {
		t.Error("tampered with a slot that is not there")
	}
}

func TestNothingTold(t *testing.T) {
	r, err := opened(t, made(t, Options{Strength: new(firmware.None)}), "1").ReadBack(t.Context())
	if err != nil || r.Version != "" || r.Strength != firmware.None || r.String() != "not told" {
		t.Errorf("%+v, %v", r, err)
	}
}

// TestPowerCut stops an update at every point and looks at the device after the next power-on: a device
// with two slots runs one of the two whole; one with a single slot says that it runs neither.
func TestPowerCut(t *testing.T) {
	for _, slots := range []int{1, 2} {
		for _, atReset := range []bool{false, true} {
			for _, point := range Points() {
				t.Run(fmt.Sprintf("%d slots/at reset %t/%s", slots, atReset, point), func(t *testing.T) {
					path := made(t, Options{Slots: slots, AtReset: atReset})
					d := opened(t, path, "1")
					from, err := d.ReadBack(t.Context())
					if err != nil {
						t.Fatal(err)
					}
					if err := d.SetFault(Fault{Point: point}); err != nil {
						t.Fatal(err)
					}
					image := Image("sim", "1.1", 300_000)
					if err := d.Flash(t.Context(), bytes.NewReader(image), int64(len(image)), nil); err == nil {
						_, err = d.Activate(t.Context())
						if point == Activate && !errors.Is(err, ErrFault) {
							t.Errorf("activate: %v", err)
						}
					} else if !errors.Is(err, ErrFault) {
						t.Errorf("flash: %v", err)
					}
					d = opened(t, path, "2")
					if _, err := d.ReadBack(t.Context()); (err != nil) != (point == Read || slots == 1 && (point == Write || point == Commit)) {
						t.Errorf("read back: %v", err)
					}
					if err := d.SetFault(Fault{}); err != nil {
						t.Fatal(err)
					}
					now, err := d.ReadBack(t.Context())
					switch {
					case slots == 1 && (point == Write || point == Commit):
						if err == nil {
							t.Errorf("half of an image reads back as %v", now)
						}
					case err != nil:
						t.Error(err)
					case point == Read || slots == 1 && point == Activate:
						if now.Version != "1.1" {
							t.Errorf("runs %v, want the new firmware", now)
						}
					case now != from:
						t.Errorf("runs %v, want %v", now, from)
					}
				})
			}
		}
	}
}

func TestStallEndsWithItsContext(t *testing.T) {
	d := opened(t, made(t, Options{Fault: Fault{Point: Write, Stall: true}}), "1")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	image := Image("sim", "1.1", 300_000)
	err := d.Flash(ctx, bytes.NewReader(image), int64(len(image)), func(p firmware.Progress) {
		if p.Done > p.Total/2 {
			cancel() // after the stall this could not be reached
		}
	})
	if !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// TestTornState loses either copy of the state; the other one counts.
func TestTornState(t *testing.T) {
	for n := range int64(2) {
		path := made(t, Options{})
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := f.WriteAt([]byte("torn"), n*copySize+100); err != nil {
			t.Fatal(err)
		}
		if r, err := opened(t, path, "1").ReadBack(t.Context()); err != nil || r.Version != "1.0" {
			t.Errorf("copy %d torn: %v, %v", n, r, err)
		}
	}
	empty := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(empty, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(empty, "1"); !errors.Is(err, ErrNoDevice) {
		t.Errorf("open an empty disk: %v, want ErrNoDevice", err)
	}
}

func TestFormatRefuses(t *testing.T) {
	for _, o := range []Options{{Slots: 9}, {SlotSize: 1 << 40}, {Slots: -1}} {
		if err := Format(memory{}, o); err == nil {
			t.Errorf("%+v was formatted", o)
		}
	}
}

// memory is a medium of which nothing is kept.
type memory struct{}

func (memory) ReadAt([]byte, int64) (int, error)      { return 0, io.EOF }
func (memory) WriteAt(b []byte, _ int64) (int, error) { return len(b), nil }
func (memory) Sync() error                            { return nil }

func FuzzDecode(f *testing.F) {
	s := &state{Model: "sim", SlotSize: 4096, Slots: make([]slot, 2), Next: -1}
	good, err := s.encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(magic))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := decode(b)
		if err != nil {
			if !errors.Is(err, ErrNoDevice) {
				t.Errorf("error %v is not ErrNoDevice", err)
			}
			return
		}
		if err := s.check(); err != nil {
			t.Errorf("decoded a state that is wrong: %v", err)
		}
	})
}
