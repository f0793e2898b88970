package mutant

//go:generate env RATCHET_CFLAGS=-DMUTANTS sh ../../generate.sh mutant ../lb.bpf.c -type mutant
