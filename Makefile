# SPDX-License-Identifier: Apache-2.0
# The few words that people type. Each sets up what it needs and is one line to the `delphyne` command.
#
#   BOOTIMG=FILE            another kernel for `run`, `gdb` and `bundle`: a file, a Debian package, or 6.1, 6.12, 6.12-rt, 6.12-cloud..
#   PLATFORM=virt|zcu102    the board for `run` and `gdb`: QEMU's virt, or its ZCU102
#   DEBUG=1                 the debug image, for `run`, `gdb`, `build`: it shows on the console what the host provokes, and itself to its counters
#   DEBUGGER=1              `run` waits for gdb before the first instruction, with the host's console here: `make gdb`, in another terminal, attaches
#   GRAPHICS=1              a display by SPICE for `run`; where to look is printed
#   GUEST=0                 `run` without a guest: the host's shell alone
#   PROTECTED=0             `run` with an ordinary guest
PYTHON ?= python3
DELPHYNE := .venv/bin/delphyne
KERNEL_OPTION := $(if $(BOOTIMG),--kernel $(BOOTIMG))
DEBUG_OPTION := $(if $(filter-out 0,$(DEBUG)),--debug)
HOST_OPTIONS := $(KERNEL_OPTION) $(if $(PLATFORM),--board $(PLATFORM)) $(DEBUG_OPTION)
RUN_OPTIONS := $(HOST_OPTIONS) $(if $(filter-out 0,$(DEBUGGER)),--gdb) $(if $(filter-out 0,$(GRAPHICS)),--graphics) $(if $(filter 0,$(GUEST)),,$(if $(filter zcu102,$(PLATFORM)),,--guest $(if $(filter 0,$(PROTECTED)),,--protected --guest-memory 128)))

.PHONY: run test setup tools target-qemu hostimage guestimage guest-pkvm build bundle demo gdb gdb-alone check prove mutants attack fuzz bench soak nightly lock clean

# A stock Debian kernel above Delphyne and, under its KVM, a stock Debian guest that is protected: what its host sees of it, then its login shell.
# `make demo` shows EL2 alone.
run: setup
	@$(DELPHYNE) run $(RUN_OPTIONS)

test: setup
	@$(DELPHYNE) test

setup tools target-qemu:
	@$(PYTHON) bootstrap.py

hostimage: setup
	@$(DELPHYNE) hostimage

guestimage: setup
	@$(DELPHYNE) guestimage

# Builds Linux 6.12 of Debian's source with mainline's pKVM guest driver, which takes some time, once; no part of `make test`.
guest-pkvm: setup
	@$(PYTHON) bootstrap.py kernel-tools
	@$(DELPHYNE) guest-pkvm

build: setup
	@$(DELPHYNE) build $(DEBUG_OPTION)

bundle: setup
	@$(DELPHYNE) bundle $(KERNEL_OPTION)

demo: setup
	@$(DELPHYNE) demo

# On a host. EL2 alone: gdb-alone.
gdb: setup
	@$(DELPHYNE) gdb $(HOST_OPTIONS)

gdb-alone: setup
	@$(DELPHYNE) gdb --alone

check: setup
	@$(DELPHYNE) check

prove: setup
	@$(DELPHYNE) prove

mutants: setup
	@$(DELPHYNE) prove --mutants

attack: setup
	@$(DELPHYNE) attack

fuzz: setup
	@$(DELPHYNE) fuzz --count 20000

bench: setup
	@$(DELPHYNE) bench language
	@$(DELPHYNE) bench boot
	@$(DELPHYNE) bench kvm
	@$(DELPHYNE) bench guest
	@$(DELPHYNE) bench guest --protected
	@$(DELPHYNE) bench virtio
	@$(DELPHYNE) bench dm-crypt

soak: setup
	@$(DELPHYNE) soak

nightly: setup
	@$(PYTHON) bootstrap.py kernel-tools
	@$(DELPHYNE) test --nightly

lock: setup
	@.venv/bin/python -m pip install --quiet pip-tools && .venv/bin/pip-compile --quiet --generate-hashes --allow-unsafe --strip-extras --no-header \
	  --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --output-file requirements.txt requirements.in

clean:
	rm -rf build .venv
