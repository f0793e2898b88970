package vm

import "testing"

func TestPointers(t *testing.T) {
	const registers = "\r\nCPU#0\r\nRAX=0000000000000001 RBX=0000000000000000\r\nRSI=1 RSP=ffffc90000003f00\r\n" +
		"RIP=ffffffff81c0ffee RFL=00000246 [---Z-P-] CPL=0 II=0 A20=1 SMM=0 HLT=1\r\nCR0=80050033 CR3=0000000001234000\r\n\r\nCPU#1\r\nRIP=00000000004711 HLT=0\r\n"
	const want = "CPU#0 RSP=ffffc90000003f00 RIP=ffffffff81c0ffee RFL=00000246 HLT=1 CR3=0000000001234000 CPU#1 RIP=00000000004711 HLT=0"
	if got := pointers(registers); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}
