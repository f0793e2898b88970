#!/bin/sh
# generate.sh NAME [SOURCE] [bpf2go's flags…]: makes NAME_bpfel.{go,o} of SOURCE (NAME.bpf.c) in the calling package,
# with the same flags for every program of the house. clang is pinned because the object must come out byte for byte
# the same on every machine. v3 is the oldest instruction set with compare-and-swap; Linux 6.1 and later verify it.
set -eu
name=$1 source=$1.bpf.c
shift
case ${1:-} in *.bpf.c) source=$1; shift ;; esac
export BPF2GO_CFLAGS="-O2 -g -mcpu=v3 -Wall -Wextra -Werror -Wno-unused-parameter -Wno-unused-function ${RATCHET_CFLAGS:-}"
exec go tool bpf2go -cc clang-19 -strip llvm-strip-19 -target bpfel -no-global-types "$@" \
  "$name" "$source" -- -I"$(dirname "$0")/headers" -I"$(dirname "$source")"
