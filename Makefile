# SPDX-License-Identifier: Apache-2.0
# The few words that people type. Each sets up what it needs and is one line to the `delphyne` command.
PYTHON ?= python3
DELPHYNE := .venv/bin/delphyne

.PHONY: run test setup build gdb check prove mutants fuzz bench nightly lock clean

setup:
	@$(PYTHON) bootstrap.py

run: setup
	@$(DELPHYNE) run

test: setup
	@$(DELPHYNE) test

build: setup
	@$(DELPHYNE) build

gdb: setup
	@$(DELPHYNE) gdb

check: setup
	@$(DELPHYNE) check

prove: setup
	@$(DELPHYNE) prove

mutants: setup
	@$(DELPHYNE) prove --mutants

fuzz: setup
	@$(DELPHYNE) fuzz --count 20000

bench: setup
	@$(DELPHYNE) bench language

nightly: setup
	@$(DELPHYNE) test --nightly

lock: setup
	@.venv/bin/python -m pip install --quiet pip-tools && .venv/bin/pip-compile --quiet --generate-hashes --allow-unsafe --strip-extras --no-header \
	  --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --output-file requirements.txt requirements.in

clean:
	rm -rf build .venv
