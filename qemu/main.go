// Command qemu runs built images in virtual machines: the system tests, the demonstration, the benches, or one
// machine with its console on this terminal. The Makefile calls it; so can you.
//
//	go run ./qemu systems --only secure-counter,lease
//	go run ./qemu boot --image build/image/full --uefi --secure-boot
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/ratchetos/ratchet/qemu/systems"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := command().ExecuteContext(ctx)
	stop()
	switch {
	case err == nil:
	case errors.Is(err, systems.ErrFailed): // the table has said it
		os.Exit(1)
	default:
		fmt.Fprintln(os.Stderr, "qemu:", err)
		os.Exit(1)
	}
}

func command() *cobra.Command {
	root := &cobra.Command{
		Use:           "qemu",
		Short:         "Run built images in virtual machines",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.AddCommand(runCommand(), systemsCommand(), soakCommand(), benchCommand(), delayCommand(), bootCommand())
	return root
}
