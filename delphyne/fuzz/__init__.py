# SPDX-License-Identifier: Apache-2.0
"""Differential testing of the language: programs are generated, run in every way there is, and must agree.

`generate` makes programs, `run_*` are the ways to run one, `compare` holds them against each other, `shrink` makes what fails small.
"""
