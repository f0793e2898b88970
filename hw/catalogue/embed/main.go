// Embed writes table.json, the form of configs/hardware.yaml that the appliance carries:
//
//	go generate ./hw/catalogue
package main

import (
	"fmt"
	"os"

	"github.com/ratchetos/ratchet/configs"
	"github.com/ratchetos/ratchet/hw/catalogue"
)

func main() {
	table, err := catalogue.Table(configs.Hardware)
	if err == nil {
		err = os.WriteFile("table.json", table, 0o644)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "embed:", err)
		os.Exit(1)
	}
}
