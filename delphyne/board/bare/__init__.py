# SPDX-License-Identifier: Apache-2.0
"""A bare EL2 machine in QEMU that runs a list of compiled functions: differential tests, constant-time traces and instruction counts."""

from __future__ import annotations
