package devlink

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/mdlayher/genetlink"
	"github.com/mdlayher/genetlink/genltest"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/ratchetos/ratchet/hw/firmware"
	"github.com/ratchetos/ratchet/hw/firmware/firmwaretest"
)

// fake is the kernel's side: one device whose driver stores an image and runs it after a reset.
type fake struct {
	t               *testing.T
	dir             string
	running, stored string
	reported        chan struct{} // closed when the client has been told how far the flash is
}

const busName, deviceName = "pci", "0000:03:00.0"

func (k *fake) dial() *genetlink.Conn {
	told := 0
	family := genetlink.Family{ID: 0x15, Name: "devlink", Version: 1}
	return genltest.Dial(genltest.ServeFamily(family, func(m genetlink.Message, n netlink.Message) ([]genetlink.Message, error) {
		switch {
		case n.Header.Type == 0: // Receive on the monitor
			told++
			return k.notification(told)
		case m.Header.Command == unix.DEVLINK_CMD_INFO_GET:
			if n.Header.Flags&netlink.Acknowledge != 0 {
				k.t.Error("INFO_GET asks for an acknowledgement, which would stay unread")
			}
			if got := k.target(m.Data); got != busName+"/"+deviceName {
				return nil, genltest.Error(int(unix.ENODEV))
			}
			return []genetlink.Message{{Header: genetlink.Header{Command: unix.DEVLINK_CMD_INFO_GET}, Data: k.info()}}, nil
		case m.Header.Command == unix.DEVLINK_CMD_FLASH_UPDATE:
			return k.flash(m.Data)
		}
		return nil, genltest.Error(int(unix.EOPNOTSUPP))
	}))
}

func (k *fake) target(data []byte) string {
	s, err := parseStatus(data)
	if err != nil {
		k.t.Error(err)
	}
	return s.bus + "/" + s.device
}

func encode(t *testing.T, add func(*netlink.AttributeEncoder)) []byte {
	t.Helper()
	e := netlink.NewAttributeEncoder()
	e.String(unix.DEVLINK_ATTR_BUS_NAME, busName)
	e.String(unix.DEVLINK_ATTR_DEV_NAME, deviceName)
	add(e)
	b, err := e.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func version(e *netlink.AttributeEncoder, kind uint16, name, value string) {
	e.Nested(kind, func(n *netlink.AttributeEncoder) error {
		n.String(unix.DEVLINK_ATTR_INFO_VERSION_NAME, name)
		n.String(unix.DEVLINK_ATTR_INFO_VERSION_VALUE, value)
		return nil
	})
}

func (k *fake) info() []byte {
	return encode(k.t, func(e *netlink.AttributeEncoder) {
		e.String(unix.DEVLINK_ATTR_INFO_DRIVER_NAME, "fake")
		version(e, unix.DEVLINK_ATTR_INFO_VERSION_FIXED, "board.id", "K1")
		version(e, unix.DEVLINK_ATTR_INFO_VERSION_RUNNING, "fw.mgmt", k.running)
		version(e, unix.DEVLINK_ATTR_INFO_VERSION_STORED, "fw.mgmt", k.stored)
	})
}

// flash takes the file that the request names, and does not end before the client knows its progress.
func (k *fake) flash(data []byte) ([]genetlink.Message, error) {
	d, err := netlink.NewAttributeDecoder(data)
	if err != nil {
		return nil, err
	}
	name := ""
	for d.Next() {
		if d.Type() == unix.DEVLINK_ATTR_FLASH_UPDATE_FILE_NAME {
			name = d.String()
		}
	}
	image, err := os.ReadFile(filepath.Join(k.dir, name))
	if err != nil {
		return nil, genltest.Error(int(unix.ENOENT))
	}
	v, ok := strings.CutPrefix(string(bytes.TrimRight(image, "\x00")), "FW")
	if !ok {
		return nil, genltest.Error(int(unix.EINVAL))
	}
	if k.reported != nil {
		<-k.reported
	}
	k.stored = v
	return nil, genltest.Error(0) // the acknowledgement
}

func (k *fake) notification(n int) ([]genetlink.Message, error) {
	if n > 1 {
		return nil, io.ErrClosedPipe // as after an overrun
	}
	other := encode(k.t, func(e *netlink.AttributeEncoder) { e.String(unix.DEVLINK_ATTR_RELOAD_STATS, "") })
	ours := encode(k.t, func(e *netlink.AttributeEncoder) {
		e.String(unix.DEVLINK_ATTR_FLASH_UPDATE_STATUS_MSG, "Flashing")
		e.Uint64(unix.DEVLINK_ATTR_FLASH_UPDATE_STATUS_DONE, 10)
		e.Uint64(unix.DEVLINK_ATTR_FLASH_UPDATE_STATUS_TOTAL, 40)
	})
	return []genetlink.Message{
		{Header: genetlink.Header{Command: unix.DEVLINK_CMD_PORT_NEW}, Data: other},
		{Header: genetlink.Header{Command: unix.DEVLINK_CMD_FLASH_UPDATE_STATUS}, Data: ours},
	}, nil
}

func (k *fake) open(t *testing.T) (*Firmware, error) {
	t.Helper()
	return open(&Firmware{bus: busName, device: deviceName, dir: k.dir, dial: func() (*genetlink.Conn, error) { return k.dial(), nil }})
}

func image(version string) []byte { return append([]byte("FW"+version), make([]byte, 5000)...) }

func TestConformance(t *testing.T) {
	firmwaretest.Run(t, func(t *testing.T) firmwaretest.Rig {
		k := &fake{t: t, dir: t.TempDir(), running: "1.0", stored: "1.0"}
		return firmwaretest.Rig{
			Open: func(t *testing.T) firmware.Firmware {
				f, err := k.open(t)
				if err != nil {
					t.Fatal(err)
				}
				return f
			},
			Reset: func(*testing.T) { k.running = k.stored },
			Image: image, Bad: []byte("garbage"), Strength: firmware.Version, Slots: 2, Blocking: true,
		}
	})
}

func TestProgress(t *testing.T) {
	k := &fake{t: t, dir: t.TempDir(), running: "1", stored: "1", reported: make(chan struct{})}
	f, err := k.open(t)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var seen []firmware.Progress
	err = f.Flash(t.Context(), bytes.NewReader(image("2")), 5003, func(p firmware.Progress) {
		seen = append(seen, p)
		close(k.reported)
	})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]firmware.Progress{{Phase: "Flashing", Done: 10, Total: 40}}, seen); diff != "" {
		t.Error(diff)
	}
	if left, err := os.ReadDir(k.dir); err != nil || len(left) != 0 {
		t.Errorf("the image stays in the firmware folder: %v, %v", left, err)
	}
}

func TestNoInstance(t *testing.T) {
	k := &fake{t: t, dir: t.TempDir()}
	_, err := open(&Firmware{bus: "pci", device: "0000:09:00.0", dial: func() (*genetlink.Conn, error) { return k.dial(), nil }})
	if !errors.Is(err, firmware.ErrUnsupported) {
		t.Errorf("%v, want ErrUnsupported", err)
	}
}

func TestInfo(t *testing.T) {
	k := &fake{t: t, running: "10.20.30", stored: "10.30"}
	got, err := parseInfo(k.info())
	if err != nil {
		t.Fatal(err)
	}
	want := []firmware.Component{{Name: "board.id", Running: "K1", Fixed: true}, {Name: "fw.mgmt", Running: "10.20.30", Stored: "10.30"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if r, s := firmware.Running(got), firmware.Stored(got); r != "10.20.30" || s != "10.30" {
		t.Errorf("running %q, stored %q", r, s)
	}
}

func FuzzInfo(f *testing.F) {
	e := netlink.NewAttributeEncoder()
	version(e, unix.DEVLINK_ATTR_INFO_VERSION_RUNNING, "fw", "1")
	b, err := e.Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		components, err := parseInfo(b)
		if err != nil {
			return
		}
		for _, c := range components {
			if c.Running != firmware.Clean(c.Running) || c.Stored == c.Running && c.Stored != "" {
				t.Errorf("%+v", c)
			}
		}
	})
}

func FuzzStatus(f *testing.F) {
	f.Add([]byte{8, 0, 1, 0, 'p', 'c', 'i', 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, err := parseStatus(b); err == nil && (s.Done < 0 || s.Total < 0) {
			t.Errorf("%+v", s)
		}
	})
}
