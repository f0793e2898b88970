package vm

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// Bus sits on the wires between a machine and its TPM, where an attacker with a soldering iron does. It gets each
// command of the machine and returns what the machine shall take for the answer; send passes a command on to the
// TPM, any number of times. It is called from one goroutine. An error is a TPM that does not answer any more.
//
// Commands and answers are whole, header and all (TPM 2.0 Library, part 3, section 4.1).
type Bus func(command []byte, send func(command []byte) (answer []byte, err error)) (answer []byte, err error)

// maxTPMMessage bounds a command and an answer; libtpms has 4 KiB buffers.
const maxTPMMessage = 64 << 10

// tap puts bus between QEMU, at the returned file, and swtpm, at chip. QEMU talks to the emulator on two sockets: it
// is given the control channel, and makes the data channel itself and passes its end over the control channel. The
// tap ends when either side closes.
func tap(chip *os.File, bus Bus) (machine *os.File, err error) {
	toMachine, machine, err := unixPair()
	if err != nil {
		return nil, err
	}
	c, err := net.FileConn(chip)
	if err != nil {
		toMachine.Close()
		machine.Close()
		return nil, fmt.Errorf("tap the TPM's control channel: %w", err)
	}
	toChip := c.(*net.UnixConn)
	go func() {
		defer toMachine.Close()
		_, _ = io.Copy(toMachine, toChip)
	}()
	go func() {
		defer toChip.Close()
		forwardControl(toChip, toMachine, bus)
	}()
	return machine, nil
}

// forwardControl passes control messages on and swaps the data channel in them for one that bus is on.
func forwardControl(toChip, fromMachine *net.UnixConn, bus Bus) {
	b, oob := make([]byte, 4096), make([]byte, unix.CmsgSpace(4))
	for {
		n, on, _, _, err := fromMachine.ReadMsgUnix(b, oob)
		if err != nil || n == 0 {
			return
		}
		var rights []byte
		if data, err := receivedFile(oob[:on]); err == nil {
			theirs, err := tapData(data, bus)
			if err != nil {
				return
			}
			rights = unix.UnixRights(int(theirs.Fd()))
			_, _, err = toChip.WriteMsgUnix(b[:n], rights, nil)
			theirs.Close()
			if err != nil {
				return
			}
			continue
		}
		if _, err := toChip.Write(b[:n]); err != nil {
			return
		}
	}
}

// receivedFile is the one file in a control message.
func receivedFile(oob []byte) (*os.File, error) {
	if len(oob) == 0 {
		return nil, os.ErrNotExist
	}
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, err
	}
	for _, m := range messages {
		if fds, err := unix.ParseUnixRights(&m); err == nil && len(fds) == 1 {
			unix.CloseOnExec(fds[0])
			return os.NewFile(uintptr(fds[0]), "tpm-data"), nil
		}
	}
	return nil, os.ErrNotExist
}

// tapData serves the machine's end of the data channel and returns the end for the chip.
func tapData(machine *os.File, bus Bus) (chip *os.File, err error) {
	ours, chip, err := unixPair()
	if err != nil {
		machine.Close()
		return nil, err
	}
	go func() {
		defer machine.Close()
		defer ours.Close()
		send := func(command []byte) ([]byte, error) {
			if _, err := ours.Write(command); err != nil {
				return nil, err
			}
			return readTPMMessage(ours)
		}
		for {
			command, err := readTPMMessage(machine)
			if err != nil {
				return
			}
			answer, err := bus(command, send)
			if err != nil {
				return
			}
			if _, err := machine.Write(answer); err != nil {
				return
			}
		}
	}()
	return chip, nil
}

// readTPMMessage reads one command or answer by the length in its header.
func readTPMMessage(r io.Reader) ([]byte, error) {
	header := make([]byte, 10)
	if _, err := io.ReadFull(r, header); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(header[2:])
	if n < uint32(len(header)) || n > maxTPMMessage {
		return nil, fmt.Errorf("TPM message of %d bytes", n)
	}
	message := append(header, make([]byte, int(n)-len(header))...)
	_, err := io.ReadFull(r, message[len(header):])
	return message, err
}

// unixPair is socketPair with the type that can pass files.
func unixPair() (*net.UnixConn, *os.File, error) {
	ours, theirs, err := socketPair()
	if err != nil {
		return nil, nil, err
	}
	return ours.(*net.UnixConn), theirs, nil
}
