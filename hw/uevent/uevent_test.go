package uevent

import (
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestParse(t *testing.T) {
	const add = "add@/devices/pci0000:00/0000:00:03.0/block/sda\x00ACTION=add\x00DEVPATH=/x\x00SUBSYSTEM=block\x00SEQNUM=7\x00"
	e, ok := Parse([]byte(add))
	if want := (Event{"add", "/devices/pci0000:00/0000:00:03.0/block/sda", "block"}); !ok || e != want {
		t.Errorf("got %+v, %v", e, ok)
	}
	for _, bad := range []string{"", "add@/x", "libudev\x00\xfe\xed\xca\xfe", "add@\x00", "@@\x00", "no header\x00"} {
		if e, ok := Parse([]byte(bad)); ok {
			t.Errorf("Parse(%q) = %+v", bad, e)
		}
	}
}

// The kernel lets root ask for a device's event again: the real socket, without hardware.
func TestListenHearsTheKernel(t *testing.T) {
	l, err := Listen()
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := os.WriteFile("/sys/devices/virtual/mem/null/uevent", []byte("change"), 0); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(5 * time.Second)
	for time.Now().Before(deadline) {
		for _, e := range l.Wait(100 * time.Millisecond) {
			if e.Action == "change" && strings.HasSuffix(e.Path, "/mem/null") && e.Subsystem == "mem" {
				return
			}
		}
	}
	t.Fatal("no event for /dev/null")
}

// TestLost: events that the socket could not hold are reported, once.
func TestLost(t *testing.T) {
	l, err := Listen()
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := unix.SetsockoptInt(l.fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 1); err != nil { // the kernel takes its minimum
		t.Fatal(err)
	}
	for range 100 {
		if err := os.WriteFile("/sys/devices/virtual/mem/null/uevent", []byte("change"), 0); err != nil {
			t.Fatal(err)
		}
	}
	l.Wait(time.Second)
	if !l.Lost() {
		t.Error("nobody is told")
	}
	if l.Lost() {
		t.Error("it is told again")
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("add@/devices/x\x00SUBSYSTEM=block\x00"))
	f.Add([]byte("libudev\x00\xfe\xed\xca\xfe"))
	f.Fuzz(func(t *testing.T, msg []byte) {
		if e, ok := Parse(msg); ok && !strings.HasPrefix(e.Path, "/") {
			t.Errorf("path %q", e.Path)
		}
	})
}
