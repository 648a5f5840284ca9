# SPDX-License-Identifier: Apache-2.0
"""Both ways in which a test about guests runs: above Delphyne, and on plain KVM. What plain KVM does as well is no fault of ours."""

from __future__ import annotations

import pytest

WAYS = ("delphyne", pytest.param("plain", marks=pytest.mark.slow))
"""Plain is for `make nightly`: the test command is about Delphyne."""
