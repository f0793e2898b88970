// Command image builds, checks and describes the appliance's image.
//
//	go run ./image build [--flavour full|cloud] [--out DIR] [--config FILE] [--release --keys DIR]
//	go run ./image disk UKI --out FILE [--config FILE] [--size BYTES]
//	go run ./image info FILE
//	go run ./image verify FILE [--cert FILE] [--development]
//	go run ./image guest-agent [--out DIR]
//
// It needs no privilege. What it needs of the machine is Go, apt's tools for the kernel package
// and Debian's package systemd-boot-efi for the UEFI stub.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := newRoot().ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "image:", err)
		stop()
		os.Exit(1)
	}
}
