#!/bin/sh
# Makes <name>_bpfel.{go,o} of <name>.bpf.c in the calling package, with the same flags for every program of the
# house. clang is pinned because the object must come out byte for byte the same on every machine.
# v3 is the oldest instruction set with atomic compare-and-swap; Linux 6.1 and later verify it.
set -eu
name=$1
shift
exec go tool bpf2go -cc clang-19 -strip llvm-strip-19 -target bpfel -no-global-types \
  -cflags "-O2 -g -mcpu=v3 -Wall -Wextra -Werror -Wno-unused-parameter -Wno-unused-function -Wno-address-of-packed-member" \
  "$@" "$name" "$name.bpf.c" -- -I../headers
