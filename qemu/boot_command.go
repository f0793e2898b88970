package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/ratchetos/ratchet/image/keys"
	"github.com/ratchetos/ratchet/qemu/box"
	"github.com/ratchetos/ratchet/qemu/vm"
)

// interactiveLimit ends a machine that somebody left running.
const interactiveLimit = 24 * time.Hour

func bootCommand() *cobra.Command {
	o := box.Options{Limit: interactiveLimit}
	var cert string
	cmd := &cobra.Command{
		Use:   "boot",
		Short: "Boot an image with its console on this terminal",
		Long: `Boot an image with its console on this terminal. Control-A x ends the machine at once; Control-A twice sends
one Control-A. The machine's disk, TPM and UEFI variables stay in --dir: boot again and it is the same machine.
Remove the folder for a new one.`,
		Example: "  go run ./qemu boot --image build/image/cloud\n  go run ./qemu boot --image build/image/full --secure-boot",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if o.Dir == "" {
				o.Dir = filepath.Join("build", "vm", filepath.Base(o.Image))
			}
			if o.SecureBoot {
				if o.Cert, err = certificate(cert); err != nil {
					return err
				}
			}
			return boot(cmd.Context(), o, cmd.ErrOrStderr())
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.Image, "image", filepath.Join("build", "image", "full"), "output folder of 'image build'")
	f.StringVar(&o.Dir, "dir", "", "folder of the machine's disk, TPM and UEFI variables (default build/vm/NAME)")
	f.BoolVar(&o.UEFI, "uefi", false, "boot from the disk through UEFI firmware instead of loading the kernel directly")
	f.BoolVar(&o.SecureBoot, "secure-boot", false, "UEFI that runs nothing but what --cert signed")
	f.StringVar(&cert, "cert", "", "PEM certificate to enrol (default: the development certificate)")
	f.BoolVar(&o.NoTPM, "no-tpm", false, "leave the TPM out")
	f.StringVar(&o.BootDisk, "disk-model", "", "virtio-blk, virtio-scsi, nvme, ahci, megasas or usb (default virtio-blk)")
	f.StringVar(&o.Memory, "memory", "", "memory of the machine (default 1024M)")
	f.IntSliceVar(&o.Forwards, "forward", nil, "more TCP ports of the machine to reach from here")
	return cmd
}

// certificate reads the one to enrol, as PEM.
func certificate(path string) ([]byte, error) {
	if path != "" {
		return os.ReadFile(path)
	}
	ring, made, err := keys.Development("")
	if err != nil {
		return nil, err
	}
	if slices.Contains(made, keys.SecureBoot) {
		return nil, fmt.Errorf("enrol the development certificate: it was only made now, so no image is signed with it yet; build one: make image")
	}
	return ring.CertificatePEM(keys.SecureBoot)
}

// boot runs the machine until it powers off or the operator has enough.
func boot(ctx context.Context, o box.Options, notes io.Writer) error {
	o.Stdout = os.Stdout
	restore, err := rawTerminal()
	if err != nil {
		return err
	}
	defer restore()
	m, err := box.Boot(ctx, o)
	if err != nil {
		return err
	}
	defer func() { _ = m.Close() }()
	ports := append([]int{box.APIPort, box.NBDPort}, o.Forwards...)
	for _, port := range ports {
		fmt.Fprintf(notes, "port %d of the machine is at %s\r\n", port, m.Forward(port))
	}
	fmt.Fprint(notes, "Control-A x ends the machine\r\n")
	go typed(m, os.Stdin)
	exit, err := m.Wait(ctx)
	if errors.Is(err, context.Canceled) {
		return nil // Control-C where there is no terminal to make raw
	}
	if err != nil {
		return err
	}
	fmt.Fprintf(notes, "\r\nended after %.1f s: %s\r\n", exit.Elapsed.Seconds(), exit.Reason)
	return nil
}

// rawTerminal hands every key to the machine, Control-C too. It does nothing when there is no terminal.
func rawTerminal() (restore func(), err error) {
	fd := int(os.Stdin.Fd())
	if !term.IsTerminal(fd) {
		return func() {}, nil
	}
	state, err := term.MakeRaw(fd)
	if err != nil {
		return nil, fmt.Errorf("switch the terminal to raw mode: %w", err)
	}
	return func() { _ = term.Restore(fd, state) }, nil
}

// keyboard is the part of a machine that typing needs.
type keyboard interface {
	Send(text string) error
	Kill()
}

var _ keyboard = (*vm.VM)(nil)

// typed passes keys on until they end or the operator ends the machine.
func typed(m keyboard, keys io.Reader) {
	var e escape
	buf := make([]byte, 256)
	for {
		n, err := keys.Read(buf)
		text, quit := e.feed(buf[:n])
		if quit {
			m.Kill()
			return
		}
		if len(text) > 0 && m.Send(string(text)) != nil || err != nil {
			return
		}
	}
}

// escape takes the harness's own commands out of what is typed: Control-A, then x.
type escape struct{ armed bool }

func (e *escape) feed(keys []byte) (text []byte, quit bool) {
	const controlA = 0x01
	for _, k := range keys {
		switch {
		case !e.armed && k == controlA:
			e.armed = true
			continue
		case e.armed && (k == 'x' || k == 'X'):
			return text, true
		}
		e.armed = false
		text = append(text, k)
	}
	return text, false
}
