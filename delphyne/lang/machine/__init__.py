# SPDX-License-Identifier: Apache-2.0
"""The simulated machine."""

from __future__ import annotations


class Machine:
    pass
