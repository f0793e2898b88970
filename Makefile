# Ratchet: `make run` builds, boots and does the main job; `make test` is everything that must be green.
# Both install what is missing with apt and say so. Everything built goes to build/.

SHELL       := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
FLAVOUR     ?= full
VERSION     ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unversioned)
GO          ?= go
# Tools and tests are compiled as the image is: one build cache for all (image/gobuild).
export GOFLAGS := $(shell tr '\n' ' ' <image/gobuild/flags)
SUDO        := $(shell [ "$$(id -u)" = 0 ] || echo sudo)

# command:package of what each target needs on the machine; go itself is the one thing not installed here.
RUN_TOOLS   := qemu-system-x86_64:qemu-system-x86 swtpm:swtpm /usr/share/OVMF/OVMF_CODE_4M.secboot.fd:ovmf \
               /usr/lib/systemd/boot/efi/linuxx64.efi.stub:systemd-boot-efi nbdcopy:libnbd-bin xz:xz-utils
TEST_TOOLS  := $(RUN_TOOLS) gcc:gcc /usr/include/openssl/bio.h:libssl-dev /usr/include/stdlib.h:libc6-dev \
               qemu-img:qemu-utils tpm2_nvread:tpm2-tools sbverify:sbsigntool mcopy:mtools fsck.fat:dosfstools \
               sgdisk:gdisk e2fsck:e2fsprogs mkfs.ext4:e2fsprogs mkfs.xfs:xfsprogs mkswap:util-linux losetup:mount ip:iproute2 fio:fio openssl:openssl \
               pkcs11-tool:opensc softhsm2-util:softhsm2 cryptsetup:cryptsetup-bin \
               clang-19:clang-19 llvm-strip-19:llvm-19 tshark:tshark bird:bird2 \
               nbdsh:python3-libnbd nbd-client:nbd-client \
               iscsi-test-cu:libiscsi-bin /usr/lib/x86_64-linux-gnu/qemu/block-iscsi.so:qemu-block-extra \
               /usr/sbin/libvirtd:libvirt-daemon virsh:libvirt-clients \
               /usr/lib/x86_64-linux-gnu/libvirt/connection-driver/libvirt_driver_qemu.so:libvirt-daemon-driver-qemu

# What only the benches need: the servers that ours is measured against.
BENCH_TOOLS := nbdkit:nbdkit s3backer:s3backer

define need # list of command:package
	@missing=""; for t in $(1); do c=$${t%%:*}; p=$${t##*:}; \
	  case $$c in /*) [ -e "$$c" ] ;; *) command -v "$$c" >/dev/null || [ -x "/usr/sbin/$$c" ] || [ -x "/sbin/$$c" ] ;; esac || missing="$$missing $$p"; done; \
	if [ -n "$$missing" ]; then missing=$$(printf '%s\n' $$missing | sort -u | tr '\n' ' '); \
	  echo "installing with apt:$${missing:+ $$missing}"; \
	  $(SUDO) apt-get update -qq && $(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing >/dev/null; fi
endef

.PHONY: help run test image release flash guest-agent systems soak bench fuzz lint generate clean go tools

help: ## show the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

go:
	@command -v $(GO) >/dev/null || { echo "Go 1.26 or newer is needed: unpack https://go.dev/dl/ into /usr/local and put /usr/local/go/bin on PATH (README, \"What you need\")"; exit 1; }

run: go ## build the image, boot it in QEMU and do the main job on it
	$(call need,$(RUN_TOOLS))
	@$(GO) run ./qemu run --flavour $(FLAVOUR) --version $(VERSION)

image: go ## build the signed UKI and the disk image (FLAVOUR=cloud|full)
	$(call need,$(RUN_TOOLS))
	@$(GO) run ./image build --flavour $(FLAVOUR) --version $(VERSION)

flash: go ## write the disk image to DISK=/dev/… of this machine, after asking
	@[ -n "$(DISK)" ] || { echo "name the disk: make flash DISK=/dev/disk/by-id/…   (lsblk -o NAME,SIZE,MODEL,SERIAL)"; exit 2; }
	@$(MAKE) --no-print-directory image
	@$(GO) build -o build/image/image ./image
	@$(SUDO) build/image/image flash build/image/$(FLAVOUR)/disk.img $(DISK)

KEYS        ?=
release: go ## everything that is published of VERSION=v1.2.3, in build/release (KEYS=folder of your own keys)
	$(call need,$(RUN_TOOLS))
	@$(GO) run ./image release $(VERSION) --flavour $(FLAVOUR) $(if $(KEYS),--keys "$(KEYS)") $(RELEASE_FLAGS)

guest-agent: go ## the agent for VMs that are migrated: program and .deb in build/guest-agent
	@$(GO) run ./image guest-agent --version $(VERSION)

tools: go
	$(call need,$(TEST_TOOLS))

test: tools ## everything that must be green
	@.ci/test

systems: tools ## the fifteen systems, each by its own end-to-end test (ONLY=name,…)
	@$(GO) run ./qemu systems --only "$(ONLY)"

SYSTEM      ?= secure-counter
soak: tools ## interrupt a system 10,000 times and more, in its engines, processes and in QEMU (SYSTEM=cached-volume; SOAK_FLAGS=--help)
	@$(GO) run ./qemu soak --system $(SYSTEM) $(SOAK_FLAGS)

bench: tools ## figures and their goals (AREA=name,…; BENCH_FLAGS=--quick), also in build/bench.json
	$(call need,$(BENCH_TOOLS))
	@$(GO) run ./qemu bench --area "$(AREA)" $(BENCH_FLAGS)

fuzz: go ## every fuzz target for FUZZTIME (default 20s)
	@.ci/fuzz $(or $(FUZZTIME),20s)

lint: go ## golangci-lint with the floors of the house
	@.ci/lint

generate: go ## protobuf, BPF objects, schema, CLI reference
	@.ci/generate

clean: ## remove build/
	rm -rf build
