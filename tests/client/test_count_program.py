# SPDX-License-Identifier: Apache-2.0
"""The program that counts instructions of the whole machine: what it asks the kernel for. That its counts are right is seen by tests/system."""

from __future__ import annotations

import struct

from delphyne.client import count


def test_the_attribute_is_that_of_the_first_version() -> None:
    assert struct.calcsize(count.ATTRIBUTE) == 64


def test_levels_exclude_one_another() -> None:
    every = count.EXCLUDE_USER | count.EXCLUDE_KERNEL | count.EXCLUDE_HYPERVISOR
    assert [every & ~excluded for excluded in count.LEVELS.values()] == [every, count.EXCLUDE_USER, count.EXCLUDE_KERNEL, count.EXCLUDE_HYPERVISOR]
