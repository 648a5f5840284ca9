# SPDX-License-Identifier: Apache-2.0
# The few words that people type. Each sets up what it needs and is one line to the `delphyne` command.
#
#   BOOTIMG=FILE   another kernel for `run`       DEBUGGER=1   `run` waits for gdb at port 1234
#   GRAPHICS=1     a display by SPICE for `run`
PYTHON ?= python3
DELPHYNE := .venv/bin/delphyne
RUN_OPTIONS := $(if $(BOOTIMG),--kernel $(BOOTIMG)) $(if $(DEBUGGER),--gdb) $(if $(GRAPHICS),--graphics)

.PHONY: run test setup tools target-qemu hostimage build demo gdb check prove mutants attack fuzz bench nightly lock clean

# First EL2 alone, with its self-tests; then a stock Debian kernel above it, and its shell.
run: setup
	@$(DELPHYNE) demo
	@$(DELPHYNE) run $(RUN_OPTIONS)

test: setup
	@$(DELPHYNE) test

setup tools target-qemu:
	@$(PYTHON) bootstrap.py

hostimage: setup
	@$(DELPHYNE) hostimage

build: setup
	@$(DELPHYNE) build

demo: setup
	@$(DELPHYNE) demo

gdb: setup
	@$(DELPHYNE) gdb

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

nightly: setup
	@$(DELPHYNE) test --nightly

lock: setup
	@.venv/bin/python -m pip install --quiet pip-tools && .venv/bin/pip-compile --quiet --generate-hashes --allow-unsafe --strip-extras --no-header \
	  --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --output-file requirements.txt requirements.in

clean:
	rm -rf build .venv
